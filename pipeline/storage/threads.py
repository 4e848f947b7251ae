"""One call for many files at once, in threads: the calls wait for storage most of the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 32
AHEAD = 8  # calls begun per thread, so that one slow file delays no other
T = TypeVar("T")
R = TypeVar("R")


def in_threads(call: Callable[[T], R], items: Iterable[T], *, threads: int = THREADS) -> Generator[R]:
    """Yield a call's results for many items, in their order; at most `threads * AHEAD` results are held at once.

    If the iteration ends early, by an error or an interrupt, calls that have not begun are dropped, and running ones not awaited.
    """
    pool = ThreadPoolExecutor(threads)
    begun: deque[Future[R]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(call, item))
            if len(begun) >= threads * AHEAD:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
