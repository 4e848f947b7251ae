"""A source that is watched while FFmpeg reads it: how much memory it takes, and how much time.

A tag of 300 kB can unpack to 300 MB, and a file can be made such that it is searched for ever. FFmpeg asks for every byte
here, so here such a file comes to its end.
"""

from __future__ import annotations

import os
import resource
import time
from functools import cache
from typing import IO

from sep_batch.pipeline import errors

MAX_GROWN_BYTES = 512 << 20  # between two reads of one call: the index of a 24 h file takes 300 MB
PATIENCE_S = 60.0  # of this thread's own CPU time, beyond what the audio lasts that came out
_PAGE_BYTES = resource.getpagesize()


@cache
def statm() -> int:
    """Return the file descriptor of this process's memory statistics; it stays open, as the sandbox opens no files."""
    return os.open("/proc/self/statm", os.O_RDONLY)


class DecodeGuard:
    """A seekable file for FFmpeg that ends early where something is wrong, and then says what.

    Attributes:
        decoded_s: Audio that came out so far; set by who decodes.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self.decoded_s = 0.0
        self._source = source
        self._failure: Exception | None = None
        self._begun_s = time.thread_time()
        self._before_bytes: int | None = None

    def read(self, size: int) -> bytes:
        """Read so many bytes, or none: FFmpeg takes an exception for one damaged packet, and goes on."""
        if self._failure is None:
            try:
                self._look()
                return self._source.read(size)
            except Exception as error:  # noqa: BLE001 (raised by `settle`, in Python's own frames)
                self._failure = error
        return b""

    def seek(self, offset: int, whence: int) -> int:
        """Go to a place, and return it."""
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._source.tell()

    def settle(self) -> None:
        """End one call of FFmpeg's.

        Raises:
            DecodeError: It took more memory or time than an honest file does.
            TrackError: What reading raised.
        """
        self._before_bytes = None
        if self._failure is not None:
            raise self._failure

    def _look(self) -> None:
        spent_s = time.thread_time() - self._begun_s
        if spent_s > PATIENCE_S + self.decoded_s:
            raise errors.DecodeError(f"decoding took {spent_s:.0f} s for {self.decoded_s:.1f} s of audio")
        now = self.private_bytes()
        if self._before_bytes is None:
            self._before_bytes = now
        elif now - self._before_bytes > MAX_GROWN_BYTES:
            raise errors.DecodeError(f"its headers unpack to more than {MAX_GROWN_BYTES >> 20} MB")

    def private_bytes(self) -> int:
        """Return the memory of this process that no other shares."""
        _, resident, shared, _ = os.pread(statm(), 100, 0).split(b" ", 3)
        return (int(resident) - int(shared)) * _PAGE_BYTES
