"""Every read and write of the project. fsspec is in this file only; a write is whole or nothing.

A URI is a path on this machine or `scheme://...` of a scheme in `uris.SCHEMES`. Credentials come from the environment (for
S3 the standard AWS variables and profiles) or from `use`, never from a URI. Every call tries again what may pass.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import fsspec
from fsspec.caching import BlockCache
from fsspec.implementations.local import LocalFileSystem

from sep_batch.pipeline import failures, uris
from sep_batch.pipeline.retries import LISTINGS, code_of, read_error, reading, writing

WHOLE_READ_BYTES = 64 << 20  # above it a source is read by ranges
RANGE_BYTES = 8 << 20  # fetched at once of such a source
_TAKEN_CODES = ("PreconditionFailed", "ConditionalRequestConflict")  # of S3, where an object to create is there
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


def _place(uri: str, *, allow_http: bool = False) -> tuple[Any, str]:
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


@reading
def info(uri: str) -> Info:
    """Ask storage about one object.

    Raises:
        NotFound, AccessDenied, FetchTimeout, StorageUnusable, BadUri: As they say.
    """
    return _asked(uri)


def _asked(uri: str) -> Info:
    """Ask once, and raise what the client raises: whoever calls it counts the tries."""
    filesystem, path = _place(uri, allow_http=True)
    try:
        found = filesystem.info(path)
    except OSError:
        if uri.startswith("s3://"):  # a HEAD's answer has no body; this one's tells a missing bucket or a bad key from the rest
            filesystem.cat_file(path, start=0, end=1)
        raise
    if found["type"] == "directory":
        raise IsADirectoryError(uri)
    return _info(uri, found)


def _info(uri: str, found: dict[str, Any]) -> Info:
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


def exists(uri: str) -> bool:
    """Tell whether an object lies there."""
    try:
        info(uri)
    except failures.NotFound:
        return False
    return True


@reading
def is_folder(uri: str) -> bool:
    """Tell whether a URI is a folder, or a prefix that holds something."""
    filesystem, path = _place(uri, allow_http=True)
    return bool(filesystem.isdir(path))


@reading
def read(uri: str) -> bytes:
    """Read an object whole."""
    filesystem, path = _place(uri, allow_http=True)
    content: bytes = filesystem.cat_file(path)
    return content


@reading
def open_source(uri: str) -> tuple[IO[bytes], Info]:
    """Open an object for decoding: whole in memory up to 64 MB, else as a seekable file read by ranges."""
    found = _asked(uri)
    filesystem, path = _place(uri, allow_http=True)
    if found.bytes > WHOLE_READ_BYTES:
        return _ranges(uri, filesystem, path, RANGE_BYTES), found
    content = filesystem.cat_file(path, start=0, end=found.bytes) if found.bytes else b""  # a range, or s3fs asks for the size
    if len(content) != found.bytes:
        raise failures.FetchTimeout(f"{uri}: {len(content)} bytes came, expected {found.bytes}")
    return io.BytesIO(content), found


@reading
def open_ranges(uri: str, size: int, range_bytes: int = RANGE_BYTES) -> IO[bytes]:
    """Open an object as a seekable file read by ranges; storage is asked nothing before the first read.

    Args:
        uri: Where it lies.
        size: In bytes, as a listing says.
        range_bytes: Fetched at once.
    """
    filesystem, path = _place(uri, allow_http=True)
    if isinstance(filesystem, LocalFileSystem) or uris.check(uri, allow_http=True) in uris.HTTP:  # a server may ignore ranges
        return _ranges(uri, filesystem, path, range_bytes)
    return cast("IO[bytes]", Ranges(uri, _Blocks(filesystem, path, size, range_bytes)))


def _ranges(uri: str, filesystem: Any, path: str, range_bytes: int) -> IO[bytes]:
    if isinstance(filesystem, LocalFileSystem):
        return cast("IO[bytes]", filesystem.open(path, "rb"))
    return cast("IO[bytes]", Ranges(uri, filesystem.open(path, "rb", block_size=range_bytes)))


class _Blocks:
    """An object of known size as a seekable file, with the two blocks read last; fsspec's own asks storage for the size again."""

    def __init__(self, filesystem: Any, path: str, size: int, block_bytes: int) -> None:
        self.size, self._position = size, 0
        self._cache = BlockCache(block_bytes, partial(_fetch, filesystem, path, size), size, maxblocks=2)

    def read(self, size: int = -1) -> bytes:
        begin = self._position
        end = self.size if size < 0 else min(begin + size, self.size)
        content: bytes = self._cache._fetch(begin, end)  # noqa: SLF001 (fsspec's own files read so)
        self._position = begin + len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(0, offset + (0, self._position, self.size)[whence])
        return self._position

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        """Hold nothing open."""


def _fetch(filesystem: Any, path: str, size: int, start: int, end: int) -> bytes:
    content: bytes = filesystem.cat_file(path, start=start, end=min(end, size))
    return content


class Ranges(io.RawIOBase):
    """A remote object as a seekable file, whose reads try again what may pass and raise errors of ours."""

    def __init__(self, uri: str, opened: Any) -> None:
        """Wrap fsspec's file."""
        self._uri, self._opened = uri, opened

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes; fewer at the end only."""
        return _read_range(self._uri, self._opened, size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it."""
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        """Return the place."""
        return int(self._opened.tell())

    def seekable(self) -> bool:
        """Tell that it is."""
        return True

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def close(self) -> None:
        """Close it and what it wraps."""
        self._opened.close()
        super().close()


@reading
def _read_range(uri: str, opened: Any, size: int) -> bytes:
    place = opened.tell()
    wanted = opened.size - place if size < 0 else min(size, opened.size - place)
    content: bytes = opened.read(size)
    if len(content) < wanted:
        opened.seek(place)
        raise failures.FetchTimeout(f"{uri}: {len(content)} bytes came from {place} on, expected {wanted}")
    return content


@writing
def put(uri: str, content: bytes | memoryview, *, scratch: str | None = None) -> None:
    """Write an object whole or not at all.

    One PUT, or a multipart upload that is completed last; on a disk a temporary file, fsync and rename.

    Args:
        uri: Where to.
        content: All of it.
        scratch: A folder on the same disk for the temporary file; by default the target's own.

    Raises:
        WriteFailed, StorageUnusable: Storage did not take it.
    """
    filesystem, path = _place(uri)
    if isinstance(filesystem, LocalFileSystem):
        _put_on_disk(Path(path), content, Path(scratch or os.path.dirname(path)))
    else:
        filesystem.pipe_file(path, bytes(content))


@writing
def put_file(uri: str, file: Path) -> None:
    """Write a file of this machine whole or not at all, as `put` does.

    Args:
        uri: Where to; on a disk, the one that holds the file.
        file: It is moved where it can be.

    Raises:
        WriteFailed, StorageUnusable: Storage did not take it.
    """
    filesystem, path = _place(uri)
    if isinstance(filesystem, LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        file.replace(path)
        _sync_folder(Path(path).parent)
    else:
        filesystem.put_file(str(file), path)


@writing
def create(uri: str, content: bytes) -> bool:
    """Write an object only where there is none, and tell whether it is ours: of many who try at once, one wins.

    Args:
        uri: Where to.
        content: All of it; where an earlier try of ours was applied though its answer was lost, it is recognised by this.

    Raises:
        WriteFailed, StorageUnusable: Storage did not take it.
    """
    filesystem, path = _place(uri)
    try:
        if isinstance(filesystem, LocalFileSystem):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with Path(path).open("xb") as file:
                file.write(content)
        else:
            filesystem.pipe_file(path, content, mode="create")
    except OSError as error:
        if isinstance(error, FileExistsError) or code_of(error) in _TAKEN_CODES:
            return _holds(filesystem, path, content)
        raise
    return True


def _holds(filesystem: Any, path: str, content: bytes) -> bool:
    """Tell whether an object has this content; one that was removed meanwhile has not."""
    try:
        return bool(filesystem.cat_file(path) == content)
    except FileNotFoundError:
        return False


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


def find(uri: str) -> Iterator[Info]:
    """List every object below a folder or prefix, in the order of their names; none where there is no such folder.

    They come as storage gives them, so a listing of millions takes no memory. On a disk, links to files are followed, links
    to folders are not.
    """
    filesystem, path = _place(uri)
    if isinstance(filesystem, LocalFileSystem):
        return _below_folder(uri.removesuffix(path), path)
    return _below_prefix(uri, filesystem, path) if uri.startswith("s3://") else _all_below(uri, filesystem, path)


def _below_folder(scheme: str, path: str) -> Iterator[Info]:
    waiting = _entries(path)[::-1]
    while waiting:
        entry = waiting.pop()
        if entry.is_dir(follow_symlinks=False):
            waiting += _entries(entry.path)[::-1]
        elif not os.path.isdir(entry.path):
            yield _info_of_entry(f"{scheme}{entry.path}", entry)


@reading
def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what a folder holds, in the order of what lies below; nothing where it is gone."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _info_of_entry(uri: str, entry: os.DirEntry[str] | Path) -> Info:
    try:
        found = entry.stat()
    except OSError:  # a link to nowhere, or just removed
        return Info(uri, 0, None)
    return _info(uri, {"size": found.st_size, "mtime": found.st_mtime})


def _below_prefix(uri: str, filesystem: Any, path: str) -> Iterator[Info]:
    bucket, _, key = path.partition("/")
    prefix = f"{key}/" if key else ""
    asked = {"Bucket": bucket, "Prefix": prefix, **filesystem.req_kw}
    while True:
        page = _page(uri, filesystem, asked)
        for found in page.get("Contents", ()):
            yield _info(f"{uri.rstrip('/')}/{found['Key'][len(prefix) :]}", {**found, "size": found["Size"]})
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


@reading
def _page(uri: str, filesystem: Any, asked: dict[str, str]) -> dict[str, Any]:  # noqa: ARG001 (the URI is for errors)
    page: dict[str, Any] = filesystem.call_s3("list_objects_v2", **asked)
    return page


@reading
def _all_below(uri: str, filesystem: Any, path: str) -> Iterator[Info]:
    try:
        found = filesystem.find(path, detail=True)
    except FileNotFoundError as error:
        if isinstance(unusable := read_error(uri, error), failures.StorageUnusable):
            raise unusable from error
        return iter(())
    below = len(filesystem._strip_protocol(path))  # noqa: SLF001 (fsspec names its own so)
    return (_info(f"{uri.rstrip('/')}{key[below:]}", found[key]) for key in sorted(found))


@reading
def expand(pattern: str) -> list[Info]:
    """Return the objects that a glob pattern names, sorted."""
    filesystem, path = _place(pattern)
    if isinstance(filesystem, LocalFileSystem):
        return [_info_of_entry(key, Path(key)) for key in sorted(filesystem.glob(path)) if not os.path.isdir(key)]
    found = filesystem.glob(path, detail=True)
    files = [key for key in sorted(found) if found[key]["type"] != "directory"]
    return [_info(filesystem.unstrip_protocol(key), found[key]) for key in files]


@writing
def remove(uri: str) -> None:
    """Remove a folder or prefix with all it holds; nothing where it is not there. Several processes may remove the same."""
    filesystem, path = _place(uri)
    for further in reversed(range(LISTINGS)):
        if not filesystem.exists(path):
            return
        try:
            filesystem.rm(path, recursive=True)
        except FileNotFoundError:  # another process removed some of it: what is left is listed again
            if not further:
                raise
        else:
            return


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
