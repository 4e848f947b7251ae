"""Limits on the memory and CPU time of FFmpeg while it reads a file.

A tag of 300 kB can unpack to 300 MB, and a crafted file can make FFmpeg search without end. FFmpeg reads every byte through this
guard, which ends such a file.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from functools import cache
from typing import IO

from sep_batch.pipeline import errors

MAX_GROWN_BYTES = 512 << 20  # within one call of FFmpeg: the index of a 24 h file takes 300 MB
PATIENCE_S = 60.0  # CPU time of this thread, beyond the duration of the decoded audio
_PAGE_BYTES = resource.getpagesize()


@cache
def statm() -> int | None:
    """Return the file descriptor of this process's memory statistics; it stays open, as the sandbox opens no files.

    Only Linux has them.
    """
    try:
        return os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return None


class DecodeGuard:
    """A seekable file for FFmpeg that ends early where reading fails or a limit is exceeded; `settle` raises the error.

    Attributes:
        decoded_s: Duration of the audio decoded so far, in seconds; set by the code that decodes.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self.decoded_s = 0.0
        self._source = source
        self._failure: Exception | None = None
        self._begun_s = time.thread_time()
        self._before_bytes: int | None = None

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes, none after a failure: FFmpeg would take an exception for one damaged packet, and go on."""
        if self._failure is None:
            try:
                self._look()
                return self._source.read(size)
            except Exception as error:  # noqa: BLE001 (raised by `settle`, in Python's own frames)
                self._failure = error
        return b""

    def seek(self, offset: int, whence: int) -> int:
        """Move to an offset, and return the position."""
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._source.tell()

    def settle(self) -> None:
        """Check one finished call of FFmpeg.

        Raises:
            DecodeError: The call took more memory or CPU time than the limits.
            TrackError: Reading the source failed.
        """
        self._before_bytes = None
        if self._failure is not None:
            raise self._failure

    def _look(self) -> None:
        spent_s = time.thread_time() - self._begun_s
        if spent_s > PATIENCE_S + self.decoded_s:
            raise errors.DecodeError(f"decoding took {spent_s:.0f} s of CPU time for {self.decoded_s:.1f} s of audio")
        private_bytes = self.private_bytes()
        if self._before_bytes is None:
            self._before_bytes = private_bytes
        elif private_bytes - self._before_bytes > MAX_GROWN_BYTES:
            raise errors.DecodeError(f"the headers unpack to more than {MAX_GROWN_BYTES >> 20} MB")

    def private_bytes(self) -> int:
        """Return the memory of this process that is not shared; outside of Linux, the most that it has had, which grows less."""
        if (descriptor := statm()) is None:
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most if sys.platform == "darwin" else most << 10
        _, resident, shared, _ = os.pread(descriptor, 100, 0).split(b" ", 3)
        return (int(resident) - int(shared)) * _PAGE_BYTES
