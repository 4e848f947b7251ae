"""The file system of a URI, with its options; and the properties of one object."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from urllib.parse import quote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sep_batch.pipeline import errors, extras
from sep_batch.pipeline.storage import uris

_CONNECT_S, _READ_S = 10, 30  # timeouts, after which a silent server is asked again
# Only retries.py retries: retries of the clients would multiply its own.
_S3_CONFIG = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": {"total_max_attempts": 1}}
_GCS, _AZURE = ("gs", "gcs"), ("az", "abfs", "abfss")
_HEADS = tuple(f"{scheme}://" for scheme in ("s3", *_AZURE))  # whose client asks for an object's properties by HEAD
_EXTRAS = {**dict.fromkeys(_GCS, ("gcsfs", "gcs")), **dict.fromkeys(_AZURE, ("adlfs", "azure"))}  # package, extra of sep-batch
_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")  # storage classes of S3; objects of GLACIER_IR can be read at once
# gcsfs's gRPC calls are not used; the first one would wait 60 s for a server that answers HTTP only.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

Options = Mapping[str, Mapping[str, Any]]
_used: list[dict[str, dict[str, Any]]] = [{}]


@dataclass(frozen=True)
class Info:
    """Properties of one object, as storage reports them.

    Attributes:
        uri: Its URI.
        bytes: Its size.
        etag: Its etag; on a disk the modification time and the size.
        modified: Time of its last change.
        is_archived: True if it is in an archive, and has to be restored before it can be read; S3 still lists a restored one so.
    """

    uri: str
    bytes: int
    etag: str | None
    modified: datetime | None = None
    is_archived: bool = False


def use(options: Options) -> None:
    """Set the storage options of this process and all its threads.

    Args:
        options: fsspec's options by URI prefix; the longest prefix that fits a URI counts; `s3://` fits every S3 URI.
    """
    _used[0] = {prefix: dict(values) for prefix, values in options.items()}  # at once: other threads read them


def filesystem_of(uri: str, *, allow_http: bool = False) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it.

    Args:
        uri: URI of an object, folder or prefix.
        allow_http: Accept http and https, to read sources that the manifest's checks have accepted.

    Raises:
        BadUri: The scheme is not in the list, or the URI holds credentials or a chain.
        StorageUnusable: The scheme's package is missing, or its client cannot be made with the options and the environment.
        FetchTimeout: The client cannot be made now; a retry may help.
    """
    scheme = uris.check(uri, allow_http=allow_http)
    if scheme == "file":
        return LocalFileSystem(), uri.removeprefix("file://")
    if scheme in uris.HTTP or scheme == "memory":
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(uri))
    require_package(uri)
    options = _options_of(uri)
    try:
        filesystem, path = fsspec.core.url_to_fs(uri, **_defaults(scheme, options))
    except Exception as error:  # noqa: BLE001 (a client's constructor may raise anything)
        is_transient = isinstance(error, OSError) and not isinstance(error, (FileNotFoundError, PermissionError))
        kind = errors.FetchTimeout if is_transient else errors.StorageUnusable
        reason = _without(options, str(error)) or type(error).__name__
        raise kind(
            f"{uris.shown(uri)}: {scheme}:// cannot be reached with these credentials and options ({reason}); "
            "check the environment and --storage-options"
        ) from None
    _try_once(scheme, filesystem)
    return filesystem, path


def require_package(uri: str) -> None:
    """Check that the package that a URI's scheme needs is installed.

    Raises:
        StorageUnusable: It is not; the message names the extra to install.
    """
    scheme = uri.partition("://")[0]
    if scheme not in _EXTRAS:
        return
    package, extra = _EXTRAS[scheme]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise errors.StorageUnusable(
            f"{uris.shown(uri)}: {scheme}:// needs the package {package} ({error}); {extras.to_install(extra)}"
        ) from error


def _options_of(uri: str) -> dict[str, Any]:
    """Return the options of the longest prefix that fits a URI."""
    used = _used[0]
    prefix = max((prefix for prefix in used if uri.startswith(prefix)), key=len, default="")
    return used.get(prefix, {})


def _defaults(scheme: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a client's options: no cache of listings, and timeouts, unless the given options set them."""
    defaults: dict[str, Any] = {"use_listings_cache": False}
    if scheme == "s3":
        return defaults | options | {"config_kwargs": _S3_CONFIG | options.get("config_kwargs", {})}
    if scheme in _GCS:
        from aiohttp import ClientTimeout

        defaults["requests_timeout"] = ClientTimeout(sock_connect=_CONNECT_S, sock_read=_READ_S)
    else:
        defaults |= {"connection_timeout": _CONNECT_S, "read_timeout": _READ_S}
    return defaults | options


def _try_once(scheme: str, filesystem: Any) -> None:
    """Turn off a client's retries: gcsfs retries for half a minute, Azure's SDK for 1.5 minutes, and neither has an option."""
    if scheme == "s3":
        filesystem.retries = 1
    elif scheme in _GCS:
        filesystem._request = partial(type(filesystem)._request.__wrapped__, filesystem)  # noqa: SLF001
    else:
        for policy in filesystem.service_client._pipeline._impl_policies:  # noqa: SLF001
            if hasattr(policy, "total_retries"):
                policy.total_retries = 0


def _without(options: Mapping[str, Any], text: str) -> str:
    """Return an error's text without the values of options, since some are secrets."""
    for value in _texts(options):
        if len(value) > 3:
            text = text.replace(value, "...").replace(quote(value, safe=""), "...")
    return text


def _texts(options: Any) -> Iterator[str]:
    if isinstance(options, Mapping):
        for value in options.values():
            yield from _texts(value)
    elif isinstance(options, str):
        yield options


def ask_once(uri: str) -> Info:
    """Return an object's properties, in one try: the client's errors pass through, and the caller retries."""
    filesystem, path = filesystem_of(uri, allow_http=True)
    try:
        entry = filesystem.info(path)
    except OSError:
        if uri.startswith(_HEADS):  # a HEAD's answer has no body; a GET's names a missing bucket or a bad key
            filesystem.cat_file(path, start=0, end=1)
        raise
    if entry["type"] == "directory":
        raise IsADirectoryError(uri)
    return info_of(uri, entry)


def info_of(uri: str, entry: dict[str, Any]) -> Info:
    """Return an object's properties from its client's entry."""
    tag = entry.get("ETag") or entry.get("etag") or entry.get("md5Hash")
    modified = entry.get("LastModified") or entry.get("last_modified") or entry.get("updated") or entry.get("mtime")
    if isinstance(modified, float):
        try:
            modified = datetime.fromtimestamp(modified, UTC)
        except (ValueError, OverflowError, OSError):  # as of the years 0 and 33658, from broken clocks and archives
            tag, modified = tag or f"{modified} {entry['size']}", None
    elif isinstance(modified, str):
        modified = datetime.fromisoformat(modified)
    if entry["size"] is None:
        raise errors.FetchTimeout(f"{uris.shown(uri)}: the server does not report its size")
    if tag is None and modified:
        tag = f"{modified.isoformat()} {entry['size']}"
    is_archived = entry.get("StorageClass") in _ARCHIVES or entry.get("blob_tier") == "Archive"
    return Info(uri, int(entry["size"]), str(tag).strip('"') if tag is not None else None, modified, is_archived)
