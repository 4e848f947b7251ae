"""Time of a process that is shared by the calls that it works on at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class SharedTime:
    """A clock that runs more slowly by as many calls as are at work: their times add up to the process's time at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls, self._time_s, self._read_at = 0, 0.0, time.perf_counter()

    def now_s(self) -> float:
        """Return the clock's time, in seconds."""
        with self._lock:
            self._advance()
            return self._time_s

    def during(self, results: Iterator[T]) -> Iterator[T]:
        """Yield the results of a call, which is at work while it computes one, not while that one is taken."""
        while True:
            self._count(1)
            try:
                result = next(results, None)
            finally:
                self._count(-1)
            if result is None:
                return
            yield result
            del result  # before the next one is computed

    def _count(self, calls: int) -> None:
        with self._lock:
            self._advance()
            self._calls += calls

    def _advance(self) -> None:
        now = time.perf_counter()
        self._time_s += (now - self._read_at) / max(1, self._calls)
        self._read_at = now
