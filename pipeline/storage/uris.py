"""URIs: a path on this machine or `scheme://...` of a scheme in `SCHEMES`. Text only; storage is not accessed.

The parser is strict: anything that fsspec or a client below it would read as credentials, another host, another version or a
chain of file systems is refused before it reaches them.
"""

from __future__ import annotations

import os
import posixpath
import re

from sep_batch.pipeline import errors

OBJECT_STORES = ("s3", "gs", "gcs", "az", "abfs", "abfss", "memory")
SCHEMES = ("file", *OBJECT_STORES)
HTTP = ("http", "https")  # only read from, and only if that is allowed
DISKS = "/"  # store of every path
MAX_CHARS = 4096  # Linux accepts no longer path; the longest S3 key has 1,024 bytes
SHOWN_CHARS = 200  # of a text from outside, in a message

# Control characters, characters that some programs read as line ends, and halves of surrogate pairs.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_SCHEME = re.compile(r"(?:[A-Za-z0-9+.-]+::)*[A-Za-z0-9+.-]{1,20}")
_AZURE = ("az", "abfs", "abfss")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_ROOTS = {  # text between :// and the first slash, if it is not a bucket's name
    **dict.fromkeys(_AZURE, re.compile(r"\$?[A-Za-z0-9][A-Za-z0-9-]{0,62}")),  # with a dot it names an account
    "memory": re.compile(r"[^:@?#]+"),
    **dict.fromkeys(HTTP, re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(?::[0-9]{1,5})?")),
}
_QUERY = re.compile(r"(?s)[?].*=.*")  # ?versionId= to s3fs, ?endpoint_override= to pyarrow; a plain ? belongs to the key
_NOT_OF_KEY = {  # text that a client removes from a key, or may
    **dict.fromkeys(("gs", "gcs"), re.compile(r"(?s)[?].*=.*|#[0-9]+$")),  # ?generation=, #generation
    **dict.fromkeys(_AZURE, re.compile(r"[?]")),  # adlfs drops all of it
    **dict.fromkeys(HTTP, re.compile(r"[?#]")),  # signed URLs have their secret in the query, and the index would show it
}


def is_local(uri: str) -> bool:
    """Return whether a URI is a path on this machine."""
    return "://" not in uri or uri.startswith("file://")


def join(base: str, uri: str) -> str:
    """Resolve a URI against a folder: an absolute one stays as it is.

    Args:
        base: A folder, as a path or URI.
        uri: A path or URI, relative or not.

    Raises:
        BadUri: A relative one leads out of its bucket.
    """
    if "://" in uri or uri.startswith("/"):
        return uri
    if "://" not in base:
        return os.path.normpath(os.path.join(base, uri))
    scheme, _, path = base.partition("://")
    root, slash, folder = path.partition("/")
    key = f"{folder}{slash}{uri}"
    if {".", ".."} & set(uri.split("/")):  # a key may hold empty components, so only these are resolved
        key = posixpath.normpath(key)
    if key.partition("/")[0] == "..":
        raise errors.BadUri(f"{shown(uri)}: leads out of {shown(f'{scheme}://{root}')}")
    return f"{scheme}://{root}/{key}"


def absolute(uri: str) -> str:
    """Return a local path as absolute, any other URI as it is, even if `check` refuses it; no slash at the end."""
    if uri.startswith("/") and "//" not in uri and "/." not in uri and not uri.endswith("/"):
        return uri  # the case of nearly all rows of a manifest
    path = uri.removeprefix("file://")
    if path == uri and is_local(uri):
        return os.path.abspath(os.path.expanduser(uri))
    if path != uri and path.startswith("/"):
        return os.path.abspath(path)
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rstrip('/')}"


def target(uri: str) -> str:
    """Return a URI to write to, made absolute.

    Raises:
        BadUri: `check` refuses it, or it has empty path segments, as s3://bucket//stems has from an empty variable: object
            storage does not take it for s3://bucket/stems. Keys of sources may have them.
    """
    absolute_uri = absolute(uri)
    if check(absolute_uri) != "file":
        scheme, _, path = absolute_uri.partition("://")
        root, *segments = path.split("/")
        if "" in segments:
            expected = "/".join([f"{scheme}://{root}", *filter(None, segments)])
            raise errors.BadUri(f"{shown(absolute_uri)}: holds empty path segments (//), expected {shown(expected)}")
    return absolute_uri


def parent(uri: str) -> str:
    """Return the folder that holds a URI; empty components of a key are kept."""
    return uri.rpartition("/")[0] if "://" in uri else posixpath.dirname(uri)


def name(uri: str) -> str:
    """Return the last component of a URI."""
    return posixpath.basename(uri.rstrip("/"))


def store(uri: str) -> str:
    """Return the storage that fails as a whole: a URI's bucket, or `DISKS` for this machine's."""
    if is_local(uri):
        return DISKS
    scheme, _, path = uri.partition("://")
    return f"{scheme}://{path.partition('/')[0]}"


def check(uri: str, *, allow_http: bool = False) -> str:
    """Return a URI's scheme, `file` for a path.

    Args:
        uri: The URI, as given or resolved.
        allow_http: Accept http and https.

    Raises:
        BadUri: It is too long, holds control characters, credentials, a chain or a query that a client would read, or its scheme
            is not in the list. The message shows no credentials and no query.
    """
    if len(uri) > MAX_CHARS:
        raise errors.BadUri(f"{shown(uri)}: {len(uri):,} characters, expected at most {MAX_CHARS:,}")
    if match := _FORBIDDEN.search(uri):
        raise errors.BadUri(f"{shown(uri)}: holds U+{ord(match[0]):04X}, expected no control characters")
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if _WINDOWS.match(uri):
            raise errors.BadUri(f"{shown(uri)}: a Windows path, expected a path on this machine or a URI")
        return "file"
    if scheme in HTTP and not allow_http:
        raise errors.BadUri(f"{shown(uri)}: {scheme} is read only with --allow-http")
    if scheme not in (*SCHEMES, *HTTP):
        expected = ", ".join(SCHEMES)
        shown_scheme = scheme if _SCHEME.fullmatch(scheme) else "..."
        raise errors.BadUri(f"{shown(uri)}: scheme {shown_scheme!r}, expected a path or one of {expected}")
    if scheme != "file":
        _check_remote(uri, scheme, rest)
    elif not rest.startswith("/"):
        raise errors.BadUri(f"{shown(uri)}: names a host, expected file:///path")
    return scheme


def _check_remote(uri: str, scheme: str, rest: str) -> None:
    root, _, key = rest.partition("/")
    if "::" in rest or "@" in root or (":" in root and scheme not in HTTP):
        raise errors.BadUri(f"{shown(uri)}: credentials and chained URIs are not read; credentials come from the environment")
    if not _ROOTS.get(scheme, _BUCKET).fullmatch(root):
        raise errors.BadUri(f"{shown(uri)}: expected the name of a {'host' if scheme in HTTP else 'bucket'} after ://")
    if {".", ".."} & set(key.split("/")):
        raise errors.BadUri(f"{shown(uri)}: holds a component . or .., expected a resolved URI")
    if match := _NOT_OF_KEY.get(scheme, _QUERY).search(key):
        kind = "query" if match[0].startswith("?") else "fragment"
        raise errors.BadUri(f"{shown(uri)}: holds a {kind}, expected none in a {scheme} URI")


def shown(uri: str) -> str:
    """Return a URI for a message: one short line that shows no credentials and no query."""
    scheme, separator, rest = uri[: MAX_CHARS + 1].partition("://")
    if not separator:
        return printable(_QUERY.sub("?...", uri[: MAX_CHARS + 1]))
    if not _SCHEME.fullmatch(scheme):
        return "...://..."
    if "@" in rest or (":" in rest.partition("/")[0] and scheme not in HTTP):
        return f"{scheme}://..."
    path, mark, _ = (rest.partition("#")[0] if scheme in HTTP else rest).partition("?")
    return printable(f"{scheme}://{path}{'?...' if mark else ''}")


def printable(text: str, chars: int = SHOWN_CHARS) -> str:
    """Return outside text for a message: on one line, without control characters, cut after `chars`."""
    cut = text if len(text) <= chars else f"{text[:chars]}..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
