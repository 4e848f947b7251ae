"""The file system of a URI, with the options it is reached by; and what storage says of one object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sep_batch.pipeline import failures, uris

# Tries are counted in retries.py alone; the clients' own would multiply them.
_S3_CONFIG = {"connect_timeout": 10, "read_timeout": 30, "retries": {"total_max_attempts": 1}}

Options = Mapping[str, Mapping[str, Any]]
_used: dict[str, dict[str, Any]] = {}


@dataclass(frozen=True)
class Info:
    """What storage says of one object: URI, size, etag (on a disk: the modified time), and when it was last changed."""

    uri: str
    bytes: int
    etag: str | None
    modified: datetime | None = None


def use(options: Options) -> None:
    """Set how storage is reached, for this process and all its threads.

    Args:
        options: fsspec's options by URI prefix; the longest prefix that fits a URI counts, `s3://` fits every S3 URI.
    """
    _used.clear()
    _used.update({prefix: dict(values) for prefix, values in options.items()})


def filesystem_of(uri: str, *, allow_http: bool = False) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it.

    Args:
        uri: Where to.
        allow_http: To read from, where the manifest's reader has let it in.

    Raises:
        BadUri: The scheme is not in the list or its package is missing, or the URI holds credentials or a chain.
    """
    scheme = uris.check(uri, allow_http=allow_http)
    if scheme == "file":
        return LocalFileSystem(), uri.removeprefix("file://")
    prefix = max((prefix for prefix in _used if uri.startswith(prefix)), key=len, default="")
    options = {} if scheme in ("memory", *uris.HTTP) else {"use_listings_cache": False} | _used.get(prefix, {})
    if scheme == "s3":
        options["config_kwargs"] = _S3_CONFIG | options.get("config_kwargs", {})
    try:
        filesystem, path = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        raise failures.BadUri(f"{uri}: {error}") from error
    if scheme == "s3":
        filesystem.retries = 1
    return filesystem, path


def ask_once(uri: str) -> Info:
    """Ask once, and raise what the client raises: whoever calls it counts the tries."""
    filesystem, path = filesystem_of(uri, allow_http=True)
    try:
        found = filesystem.info(path)
    except OSError:
        if uri.startswith("s3://"):  # a HEAD's answer has no body; this one's tells a missing bucket or a bad key from the rest
            filesystem.cat_file(path, start=0, end=1)
        raise
    if found["type"] == "directory":
        raise IsADirectoryError(uri)
    return info_of(uri, found)


def info_of(uri: str, found: dict[str, Any]) -> Info:
    """Return what a client says of an object, in our words."""
    tag = found.get("ETag") or found.get("etag") or found.get("md5Hash")
    modified = found.get("LastModified") or found.get("last_modified") or found.get("updated") or found.get("mtime")
    if isinstance(modified, float):
        modified = datetime.fromtimestamp(modified, UTC)
    elif isinstance(modified, str):
        modified = datetime.fromisoformat(modified)
    if tag is None and modified:
        tag = modified.isoformat()
    if found["size"] is None:
        raise failures.FetchTimeout(f"{uris.shown(uri)}: the server does not say how large it is")
    return Info(uri, int(found["size"]), str(tag).strip('"') if tag is not None else None, modified)
