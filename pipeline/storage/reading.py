"""Reads: an object whole, by ranges, or only its properties."""

from __future__ import annotations

import io
import os
import stat
from functools import partial
from typing import IO, Any, cast

from fsspec.caching import BlockCache
from fsspec.implementations.local import LocalFileSystem

from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.filesystems import Info, ask_once, filesystem_of
from sep_batch.pipeline.storage.listing import find
from sep_batch.pipeline.storage.objects import bucket_of, missing_bucket_named
from sep_batch.pipeline.storage.retries import reading

WHOLE_READ_BYTES = 64 << 20  # larger sources are read by ranges
RANGE_BYTES = 8 << 20  # fetched at once of a larger source


@reading
def info(uri: str) -> Info:
    """Return an object's properties, as storage reports them.

    Raises:
        NotFound, AccessDenied, FetchTimeout, StorageUnusable, BadUri: It cannot be reached; the class says why.
    """
    with missing_bucket_named(uri):
        return ask_once(uri)


def exists(uri: str) -> bool:
    """Return whether an object exists."""
    try:
        info(uri)
    except errors.NotFound:
        return False
    return True


def is_folder(uri: str) -> bool:
    """Return whether a URI is a folder, a bucket, or a prefix that holds something."""
    if located := bucket_of(uri):
        return next(find(uri), None) is not None or not located[1]
    return _is_directory(uri)


@reading
def _is_directory(uri: str) -> bool:
    filesystem, path = filesystem_of(uri, allow_http=True)
    return bool(filesystem.isdir(path))


@reading
def read(uri: str) -> bytes:
    """Read an object whole."""
    filesystem, path = filesystem_of(uri, allow_http=True)
    with missing_bucket_named(uri):
        content: bytes = filesystem.cat_file(path)
    return content


@reading
def open_source(uri: str) -> tuple[IO[bytes], Info]:
    """Open an object for decoding: whole in memory up to 64 MB, else as a seekable file read by ranges."""
    with missing_bucket_named(uri):
        info = ask_once(uri)
    filesystem, path = filesystem_of(uri, allow_http=True)
    _refuse_no_file(uri, filesystem, path)
    if info.bytes > WHOLE_READ_BYTES:
        return _ranges(uri, filesystem, path, RANGE_BYTES), info
    content = filesystem.cat_file(path, start=0, end=info.bytes) if info.bytes else b""  # without a range, s3fs asks for the size
    if len(content) != info.bytes:
        raise errors.FetchTimeout(f"{uri}: received {len(content)} bytes, expected {info.bytes}")
    return io.BytesIO(content), info


@reading
def open_ranges(uri: str, size: int, range_bytes: int = RANGE_BYTES) -> IO[bytes]:
    """Open an object as a seekable file read by ranges; object storage gets no request before the first read.

    Args:
        uri: Its URI.
        size: Its size in bytes, from a listing.
        range_bytes: Bytes to fetch at once.
    """
    filesystem, path = filesystem_of(uri, allow_http=True)
    _refuse_no_file(uri, filesystem, path)
    if isinstance(filesystem, LocalFileSystem) or uris.check(uri, allow_http=True) in uris.HTTP:  # a server may ignore ranges
        return _ranges(uri, filesystem, path, range_bytes)
    return cast("IO[bytes]", Ranges(uri, _Blocks(filesystem, path, size, range_bytes)))


def _refuse_no_file(uri: str, filesystem: Any, path: str) -> None:
    """Refuse a pipe, socket or device: opening one may block forever, and it has no size."""
    if isinstance(filesystem, LocalFileSystem):
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise errors.BadUri(f"{uri}: a pipe, socket or device, expected a file")


def _ranges(uri: str, filesystem: Any, path: str, range_bytes: int) -> IO[bytes]:
    if isinstance(filesystem, LocalFileSystem):
        return cast("IO[bytes]", filesystem.open(path, "rb"))
    return cast("IO[bytes]", Ranges(uri, filesystem.open(path, "rb", block_size=range_bytes)))


class _Blocks:
    """An object of known size as a seekable file that keeps the two blocks read last; fsspec's own asks for the size again."""

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
        """Do nothing: nothing is open."""


def _fetch(filesystem: Any, path: str, size: int, start: int, end: int) -> bytes:
    content: bytes = filesystem.cat_file(path, start=start, end=min(end, size))
    return content


class Ranges(io.RawIOBase):
    """A remote object as a seekable file; reads retry transient errors and raise those of pipeline/errors.py."""

    def __init__(self, uri: str, opened: Any) -> None:
        """Wrap fsspec's file."""
        self._uri, self._opened = uri, opened

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes; fewer only at the end."""
        return _read_range(self._uri, self._opened, size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, and return it."""
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        """Return the position."""
        return int(self._opened.tell())

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file and what it wraps."""
        self._opened.close()
        super().close()


@reading
def _read_range(uri: str, opened: Any, size: int) -> bytes:
    position = opened.tell()
    expected = opened.size - position if size < 0 else min(size, opened.size - position)
    with missing_bucket_named(uri):
        content: bytes = opened.read(size)
    if len(content) < expected:
        opened.seek(position)
        raise errors.FetchTimeout(f"{uri}: received {len(content)} bytes from byte {position} on, expected {expected}")
    return content
