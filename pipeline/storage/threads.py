"""One call for many files at once, in threads: they wait for storage most of the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 32
AHEAD = 8  # calls begun for each thread, so that one slow file holds up no other
T = TypeVar("T")
R = TypeVar("R")


def in_threads(call: Callable[[T], R], over: Iterable[T], *, threads: int = THREADS) -> Iterator[R]:
    """Yield what a call returns for each of many, in their order; no more than some hundreds are held at once.

    When it is left early, by an error or an interrupt, what has not begun is dropped, and nothing is waited for.
    """
    pool = ThreadPoolExecutor(threads)
    begun: deque[Future[R]] = deque()
    try:
        for one in over:
            begun.append(pool.submit(call, one))
            if len(begun) >= threads * AHEAD:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
