"""Batches of patches: the patches of all calls wait in one queue, from which threads take batches.

So a device has the next batch at hand while it computes one, and the last patches of a part share a batch with the first ones of
the next part.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

import torch

K = TypeVar("K", bound=Hashable)
P = TypeVar("P")
R = TypeVar("R")


class _Waiting(NamedTuple, Generic[K, P, R]):
    kind: K
    patch: P
    result: Future[R]


class Batches(Generic[K, P, R]):
    """Computes batches of patches, whichever call they are from. A batch has patches of one kind.

    A batch that is not full waits until no other one is at work: only an idle device is given padding.
    """

    def __init__(self, compute: Callable[[K, Sequence[P]], Iterable[R]], *, size: int, threads: int) -> None:
        """Start with an empty queue.

        Args:
            compute: Returns the result of each patch of a batch, in order; called by several threads at once.
            size: Number of patches in a full batch.
            threads: Number of batches at work at once.
        """
        self._compute, self._size, self._ahead = compute, size, (threads + 1) * size
        self._queue, self._at_work = deque[_Waiting[K, P, R]](), 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(threads, "separate", initializer=torch.set_num_threads, initargs=(1,))

    def results(self, patches: Iterable[tuple[K, P]]) -> Iterator[R]:
        """Yield the result of each patch in order, while the next ones are computed: a batch more than there are threads.

        Args:
            patches: Patches of one call, each with its kind.
        """
        ahead, patches = deque[Future[R]](), iter(patches)
        try:
            while True:
                ahead.extend(self._put(itertools.islice(patches, self._ahead - len(ahead))))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            for result in ahead:
                result.cancel()

    def _put(self, patches: Iterable[tuple[K, P]]) -> list[Future[R]]:
        new = [_Waiting(kind, patch, Future[R]()) for kind, patch in patches]
        with self._lock:
            self._queue.extend(new)
        for _ in range(0, len(new), self._size):
            self._threads.submit(self._work)
        return [waiting.result for waiting in new]

    def _work(self) -> None:
        """Compute batches until none is due."""
        while batch := self._take():
            try:
                for waiting, result in zip(batch, self._compute(batch[0].kind, [one.patch for one in batch]), strict=True):
                    waiting.result.set_result(result)
            except BaseException as error:  # noqa: BLE001 (it is raised where the results are read)
                for waiting in batch:
                    if not waiting.result.done():
                        waiting.result.set_exception(error)
            finally:
                with self._lock:
                    self._at_work -= 1

    def _take(self) -> list[_Waiting[K, P, R]]:
        """Take a batch from the front of the queue; none if it is empty, or has less than a batch while another is at work."""
        batch = list[_Waiting[K, P, R]]()
        with self._lock:
            if len(self._queue) < self._size and self._at_work:
                return batch
            while self._queue and len(batch) < self._size and (not batch or self._queue[0].kind == batch[0].kind):
                waiting = self._queue.popleft()
                if waiting.result.set_running_or_notify_cancel():
                    batch.append(waiting)
            self._at_work += bool(batch)
        return batch
