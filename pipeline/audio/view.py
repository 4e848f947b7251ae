"""A view of a file: a range of its bytes, some of them replaced, as a seekable file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import IO, cast

_MAX_OFFSET = 1 << 62


def view(source: IO[bytes], start: int, stop: int, changes: Mapping[int, bytes] | None = None) -> IO[bytes]:
    """Return bytes `start` to `stop` of a file as a file.

    Args:
        source: Seekable. The view moves its position, so nothing else may read it meanwhile.
        start: First byte of the view.
        stop: First byte behind the view.
        changes: Bytes that replace the file's own, by their offset in the view.
    """
    return cast("IO[bytes]", _View(source, start, stop, changes or {}))


def read_at(source: IO[bytes], start: int, size: int) -> bytes:
    """Read at most `size` bytes from an offset on; none at an impossible offset, which a broken header may name."""
    if not 0 <= start <= _MAX_OFFSET:
        return b""
    source.seek(start)
    return source.read(max(0, size))


class _View(io.RawIOBase):
    def __init__(self, source: IO[bytes], start: int, stop: int, changes: Mapping[int, bytes]) -> None:
        super().__init__()
        self._source, self._start, self._size, self._changes = source, start, max(0, stop - start), changes
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes; to the view's end where `size` is negative."""
        left = max(0, self._size - self._position)
        count = left if size < 0 else min(size, left)
        if not count:
            return b""
        content = self._replacement(count)
        if content is None:
            self._source.seek(self._start + self._position)
            content = self._changed(self._source.read(count))
        self._position += len(content)
        return content

    def _replacement(self, count: int) -> bytes | None:
        """Return the next bytes where all of them are replaced: the file is not read there."""
        for offset, new in self._changes.items():
            begin = self._position - offset
            if begin >= 0 and begin + count <= len(new):
                return new[begin : begin + count]
        return None

    def _changed(self, content: bytes) -> bytes:
        begin = self._position
        for offset, new in self._changes.items():
            first, last = max(offset, begin), min(offset + len(new), begin + len(content))
            if first < last:
                content = content[: first - begin] + new[first - offset : last - offset] + content[last - begin :]
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to an offset, and return the position from the view's start."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Return the position from the view's start."""
        return self._position

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True
