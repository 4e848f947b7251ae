"""Every read and write of the project. fsspec is in this file only; a write is whole or nothing.

A URI is a path on this machine or `scheme://...` of a scheme in `SCHEMES`. Credentials come from the environment (for S3 the
standard AWS variables and profiles), never from a URI.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from sep_batch.pipeline import failures, uris

WHOLE_READ_BYTES = 64 << 20  # above it a source is read by ranges

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Info:
    """What storage says of one object: its URI, its size, and its etag (on a disk: the modified time)."""

    uri: str
    bytes: int
    etag: str | None


def _mapped(call: Callable[P, T]) -> Callable[P, T]:
    """Turn what storage clients raise into the tree of errors."""

    @wraps(call)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise failures.NotFound(f"{args[0]}: not found ({type(error).__name__})") from error
        except PermissionError as error:
            raise failures.AccessDenied(f"{args[0]}: access denied ({_reason(error)})") from error
        except (OSError, TimeoutError) as error:
            raise failures.FetchTimeout(f"{args[0]}: {_reason(error)}") from error
        except Exception as error:
            if not _is_a_clients(error):
                raise
            denied = "Credentials" in type(error).__name__
            raise (failures.AccessDenied if denied else failures.FetchTimeout)(f"{args[0]}: {_reason(error)}") from error

    return wrapped


def _is_a_clients(error: Exception) -> bool:
    """Tell whether an object storage client raised an error of its own kind, which are no OSErrors."""
    return type(error).__module__.partition(".")[0] in ("aiobotocore", "aiohttp", "botocore", "google", "azure")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _place(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI, and the path in it.

    Raises:
        BadUri: The scheme is not in the list, or the URI holds credentials or a chain.
    """
    scheme = uris.check(uri)
    if scheme == "file":
        return LocalFileSystem(), uri.removeprefix("file://")
    options = {} if scheme == "memory" else {"use_listings_cache": False}
    try:
        filesystem, path = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        raise failures.NotRunnableError(f"{uri}: {error}") from error
    return filesystem, path


@_mapped
def info(uri: str) -> Info:
    """Ask storage about one object.

    Raises:
        NotFound, AccessDenied, FetchTimeout, BadUri: As they say.
    """
    filesystem, path = _place(uri)
    found = filesystem.info(path)
    if found["type"] == "directory":
        raise IsADirectoryError(uri)
    return _info(uri, found)


def _info(uri: str, found: dict[str, Any]) -> Info:
    tag = found.get("ETag") or found.get("etag") or found.get("md5Hash") or found.get("mtime")
    if isinstance(tag, float):
        tag = datetime.fromtimestamp(tag, UTC).isoformat()
    return Info(uri, int(found["size"]), str(tag).strip('"') if tag is not None else None)


def exists(uri: str) -> bool:
    """Tell whether an object lies there."""
    try:
        info(uri)
    except failures.NotFound:
        return False
    return True


@_mapped
def is_folder(uri: str) -> bool:
    """Tell whether a URI is a folder, or a prefix that holds something."""
    filesystem, path = _place(uri)
    return bool(filesystem.isdir(path))


@_mapped
def read(uri: str) -> bytes:
    """Read an object whole."""
    filesystem, path = _place(uri)
    content: bytes = filesystem.cat_file(path)
    return content


@_mapped
def open_source(uri: str) -> tuple[IO[bytes], Info]:
    """Open an object for decoding: whole in memory up to 64 MB, else as a seekable file read by ranges."""
    found = info(uri)
    filesystem, path = _place(uri)
    if found.bytes <= WHOLE_READ_BYTES:
        return io.BytesIO(filesystem.cat_file(path)), found
    return filesystem.open(path, "rb"), found


def put(uri: str, content: bytes | memoryview, *, scratch: str | None = None) -> None:
    """Write an object whole or not at all.

    One PUT, or a multipart upload that is completed last; on a disk a temporary file, fsync and rename.

    Args:
        uri: Where to.
        content: All of it.
        scratch: A folder on the same disk for the temporary file; by default the target's own.

    Raises:
        WriteFailed: Storage did not take it.
    """
    filesystem, path = _place(uri)
    with _writing(uri):
        if isinstance(filesystem, LocalFileSystem):
            _put_on_disk(Path(path), content, Path(scratch or os.path.dirname(path)))
        else:
            filesystem.pipe_file(path, bytes(content))


def put_file(uri: str, file: Path) -> None:
    """Write a file of this machine whole or not at all, as `put` does.

    Args:
        uri: Where to; on a disk, the one that holds the file.
        file: It is moved where it can be.

    Raises:
        WriteFailed: Storage did not take it.
    """
    filesystem, path = _place(uri)
    with _writing(uri):
        if isinstance(filesystem, LocalFileSystem):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb+") as written:
                os.fsync(written.fileno())
            file.replace(path)
            _sync_folder(Path(path).parent)
        else:
            filesystem.put_file(str(file), path)


@contextmanager
def _writing(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or _is_a_clients(error):
            raise failures.WriteFailed(f"{uri}: could not be written ({_reason(error)})") from error
        raise


def _put_on_disk(path: Path, content: bytes | memoryview, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = scratch / f".{path.name[:100]}.{secrets.token_hex(8)}.part"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@_mapped
def find(uri: str) -> Iterator[Info]:
    """List every object below a folder or prefix, in the order of their names; none where there is no such folder."""
    filesystem, path = _place(uri)
    try:
        found = filesystem.find(path, detail=True)
    except FileNotFoundError:
        return iter(())
    below = len(filesystem._strip_protocol(path))  # noqa: SLF001 (fsspec names its own so)
    return (_info(f"{uri.rstrip('/')}{key[below:]}" if "://" in uri else key, found[key]) for key in sorted(found))


@_mapped
def expand(pattern: str) -> list[str]:
    """Return the objects that a glob pattern names, sorted."""
    filesystem, path = _place(pattern)
    found = sorted(filesystem.glob(path))
    return [filesystem.unstrip_protocol(key) if "://" in pattern else key for key in found]


@_mapped
def remove(uri: str) -> None:
    """Remove a folder or prefix with all it holds; nothing where it is not there."""
    filesystem, path = _place(uri)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def bring(uri: str, folder: Path) -> Path:
    """Copy a remote folder's files (not deeper ones) to this machine, and return where.

    Args:
        uri: The folder.
        folder: Where copies of remote folders lie.
    """
    target = folder / hashlib.sha256(uri.encode()).hexdigest()[:16]
    target.mkdir(parents=True, exist_ok=True)
    for found in find(uri):
        put(str(target / uris.name(found.uri)), read(found.uri))
    return target
