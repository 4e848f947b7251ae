"""URIs: a path on this machine or `scheme://...` of a scheme in `SCHEMES`. Words only; nothing is asked of storage."""

from __future__ import annotations

import os
import posixpath
from urllib.parse import urlsplit

from sep_batch.pipeline import failures

SCHEMES = ("file", "s3", "gs", "gcs", "az", "abfs", "abfss", "memory")
DISKS = "/"  # the place of every path


def is_local(uri: str) -> bool:
    """Tell whether a URI is a path on this machine."""
    return "://" not in uri or uri.startswith("file://")


def join(base: str, uri: str) -> str:
    """Resolve a URI against a folder: an absolute one stays as it is.

    Args:
        base: A folder, as a path or URI.
        uri: A path or URI, relative or not.
    """
    if "://" in uri or uri.startswith("/"):
        return uri
    if "://" not in base:
        return os.path.normpath(os.path.join(base, uri))
    if not {".", ".."} & set(uri.split("/")):  # a key may hold empty components, so only these are resolved
        return posixpath.join(base, uri)
    scheme, _, path = base.partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(path, uri))}"


def absolute(uri: str) -> str:
    """Return a local path as absolute, any other URI as it is; no slash at the end."""
    if is_local(uri):
        return os.path.abspath(os.path.expanduser(uri.removeprefix("file://")))
    return uri.rstrip("/")


def parent(uri: str) -> str:
    """Return the folder that holds a URI."""
    return posixpath.dirname(uri)


def name(uri: str) -> str:
    """Return the last component of a URI."""
    return posixpath.basename(uri.rstrip("/"))


def check(uri: str) -> str:
    """Return a URI's scheme, `file` for a path.

    Raises:
        BadUri: The scheme is not in the list, or the URI holds credentials or a chain.
    """
    if "://" not in uri:
        return "file"
    scheme = uri.partition("://")[0]
    if scheme not in SCHEMES:
        shown = uri if "@" not in uri else f"{scheme}://..."
        raise failures.BadUri(f"{shown}: scheme {scheme!r}, expected a path or one of {', '.join(SCHEMES)}")
    if scheme != "file" and ("@" in urlsplit(uri).netloc or "::" in uri):
        raise failures.BadUri(f"{scheme}://...: credentials and chained URIs are not read; credentials come from the environment")
    return scheme


def place(uri: str) -> str:
    """Return what stands or falls together: a URI's bucket, or this machine's disks."""
    if is_local(uri):
        return DISKS
    scheme, _, path = uri.partition("://")
    return f"{scheme}://{path.partition('/')[0]}"
