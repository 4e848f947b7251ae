"""Threads of a local flow: the workers of a stage, their queue, and the end of all."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from sep_batch.pipeline import errors
from sep_batch.pipeline.stages.context import RunContext

MOST_LEFT = 4  # workers of a stage that were left behind and have not ended: with more, the machine is at fault and no track
START_S = 600.0  # for a worker to start: Separate loads torch and the weights
LOOK_S = 0.1  # between two checks of a waiting thread for the end of the flow

Stage = Callable[[pa.Table], Iterator[pa.Table]]
Make = Callable[[RunContext], Stage]


class EndedError(Exception):
    """The flow was stopped, or a worker failed."""


class End:
    """The end of a flow, for all its threads: stopped, or ended by the first error of a worker."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def come(self, error: BaseException | None = None) -> None:
        """Stop all threads; the first error stays."""
        with self._lock:
            if not self._event.is_set():
                self.error = error
            self._event.set()

    def has_come(self) -> bool:
        """Return whether the flow has ended."""
        return self._event.is_set()

    def refuse(self) -> None:
        """Raise once the end has come."""
        if self._event.is_set():
            raise EndedError


class _Worker(threading.Thread):
    """One worker of a stage.

    Attributes:
        ids: Ids of the tracks at work; none while the worker starts.
        since: Time of `time.monotonic` since when it is at work; None while it waits.
        is_left: It was left behind.
    """

    def __init__(self, work: Callable[[_Worker], None], name: str) -> None:
        super().__init__(target=work, args=(self,), name=name, daemon=True)
        self.ids: Sequence[str] = ()
        self.since: float | None = None
        self.is_left = False


class Workers:
    """The workers of one stage, and the queue of the rows that they yield."""

    def __init__(
        self, name: str, make: Make, work: RunContext, blocks: Iterator[pa.Table], end: End, *, workers: int, ahead: int
    ) -> None:
        """Take the rows of the stage before, and a function that makes this stage; each worker has one of its own."""
        self.name, self.is_loading = name, True
        self._make, self._work, self._blocks, self._end = make, work, blocks, end
        self._taking, self._lock = threading.Lock(), threading.Lock()
        self._queued: queue.Queue[pa.Table | None] = queue.Queue(ahead)
        self._at_work = workers
        self._workers = list[_Worker]()

    def start(self) -> None:
        """Start the workers."""
        for _ in range(self._at_work):
            self._add()

    def rows(self) -> Iterator[pa.Table]:
        """Yield the stage's rows as they come."""
        return (row for row in self.ticking_rows() if row is not None)

    def ticking_rows(self) -> Iterator[pa.Table | None]:
        """Yield the stage's rows as they come, and None every `LOOK_S` while none comes."""
        while True:
            self._end.refuse()
            try:
                row = self._queued.get(timeout=LOOK_S)
            except queue.Empty:
                yield None
                continue
            if row is None:
                return
            yield row
            del row  # before the next one is awaited: a part is large

    def leave_late(self, limit_s: float) -> list[str]:
        """Leave workers behind that have been at one row for longer than this; return the ids of their tracks.

        Raises:
            NotRunnableError: A worker does not start in `START_S`, or more than `MOST_LEFT` of them hang.
        """
        now, late = time.monotonic(), list[_Worker]()
        with self._lock:
            for worker in self._workers:
                limit = limit_s if worker.ids else START_S
                if not worker.is_left and worker.since is not None and now - worker.since > limit:
                    worker.is_left = True
                    late.append(worker)
            self._workers = [worker for worker in self._workers if worker.is_alive()]
            hanging = sum(worker.is_left for worker in self._workers)
        if any(not worker.ids for worker in late):
            raise errors.NotRunnableError(f"{self.name} did not start in {START_S:g} s")
        if hanging > MOST_LEFT:
            raise errors.NotRunnableError(f"{hanging} tracks hang in {self.name}, each for over {limit_s:g} s, the time limit")
        for _ in late:
            self._add()
        return [id for worker in late for id in worker.ids]

    def join(self, until: float) -> None:
        """Wait for the threads of workers, at most until this time of the monotonic clock."""
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))

    def _add(self) -> None:
        worker = _Worker(self._run, self.name)
        with self._lock:
            self._workers.append(worker)
            worker.start()

    def _run(self, worker: _Worker) -> None:
        try:
            self._work_off(worker)
        except EndedError:
            return
        except BaseException as error:  # noqa: BLE001 (raised again by the flow's rows)
            if not worker.is_left:
                self._end.come(error)
            return
        with self._lock:
            if worker.is_left:  # another took its place
                return
            self._at_work -= 1
            is_last = not self._at_work
        if is_last:
            with contextlib.suppress(EndedError):
                self._put(None)

    def _work_off(self, worker: _Worker) -> None:
        """Have a worker take blocks until there are no more, or until it is left behind."""
        worker.since = time.monotonic()
        stage = self._make(dataclasses.replace(self._work, has_ended=lambda: worker.is_left or self._end.has_come()))
        worker.since, self.is_loading = None, False
        while not worker.is_left and (block := self._next_block()) is not None:
            ids, rows = block.column("id").to_pylist(), stage(block)
            del block
            while (row := self._timed(worker, ids, rows)) is not None:
                self._put(row)
                del row

    def _timed(self, worker: _Worker, ids: Sequence[str], rows: Iterator[pa.Table]) -> pa.Table | None:
        """Return a stage's next row; None if it has no more, or if the worker was left behind meanwhile."""
        worker.ids, worker.since = ids, time.monotonic()
        row = next(rows, None)
        with self._lock:
            worker.since = None
            return None if worker.is_left else row

    def _next_block(self) -> pa.Table | None:
        with self._taking:
            self._end.refuse()
            return next(self._blocks, None)

    def _put(self, row: pa.Table | None) -> None:
        while True:
            self._end.refuse()
            try:
                return self._queued.put(row, timeout=LOOK_S)
            except queue.Full:
                continue
