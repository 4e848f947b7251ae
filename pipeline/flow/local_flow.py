"""The stages in threads of this process, without Ray: Read -> Analyze -> Separate -> Write.

Each stage has a bounded queue of rows behind it, so that only a few parts are in memory. A worker that is over the time limit is
left behind: what it still yields is dropped, a new worker takes its place, and the driver's next pass retries its track.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa

from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.flow.resources import NICENESS, Resources
from sep_batch.pipeline.out.plan import read_plans
from sep_batch.pipeline.rows import each
from sep_batch.pipeline.stages import time_limit
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.long_tracks import Gathering, join
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

PARTS_AHEAD = 1  # rows behind Analyze and Separate: a part of four minutes has 170 MB
FINISHED_AHEAD = 1_000  # rows behind Write, a few kB each: Write goes on while a long track is joined
LOOK_S = 0.1  # between two checks of a waiting thread for the end of the flow
END_S = 2.0  # for threads to end once the flow was stopped
_LOGGER = logging.getLogger("sep_batch")


def prepare() -> None:
    """Start a decoder and import torch, so that a flow that is built soon begins at once."""
    if sys.platform == "linux":
        os.nice(NICENESS)  # of this thread, and of the decoder's process
    with contextlib.suppress(Exception):  # raised again by the stages
        audio.start()
        importlib.import_module("sep_batch.model.separator")


Stage = Callable[[pa.Table], Iterator[pa.Table]]


class LocalFlow:
    """The stages over a plan's files, in threads of this process."""

    def __init__(
        self,
        plan: Sequence[str],
        work: RunContext,
        model: str,
        resources: Resources,
        *,
        blocks_per_file: int = 1,
    ) -> None:
        """Build the flow; the arguments are those of `RayFlow`."""
        self._work = work = dataclasses.replace(work, in_process=True)
        # On Linux each thread has its own niceness; elsewhere it is the whole process's.
        niceness = NICENESS if resources.device == "cpu" and sys.platform == "linux" else 0
        separate = partial(Separate, work, model, device=resources.device, threads=resources.separate.threads)
        self._end = _End()
        self._tables = read_plans(plan)
        tracks = (row for table in self._tables for row in each(table))
        self._stages = list[_Stage]()
        for name, make, pool, ahead in (
            ("Analyze", partial(Analyze, work, niceness=niceness), resources.analyze, PARTS_AHEAD),
            ("Separate", separate, resources.separate, PARTS_AHEAD),
            ("Write", partial(Write, work, niceness=niceness), resources.write, FINISHED_AHEAD),
        ):
            rows = self._stages[-1].rows() if self._stages else tracks
            self._stages.append(_Stage(name, make, rows, self._end, workers=pool.actors, ahead=ahead))

    def rows(self) -> Iterator[pa.Table]:
        """Run the flow, as `Flow.rows` does."""
        for stage in self._stages:
            stage.start()
        gathering = Gathering()
        try:
            for row in self._stages[-1].rows():
                finished, whole = gathering.take(row)
                yield from finished
                yield from (join(parts, self._work) for parts in whole)
        except _EndedError:
            if self._end.error is None:
                return
            if isinstance(self._end.error, errors.RunError):
                raise self._end.error from None
            raise errors.NotRunnableError(f"the pipeline failed: {errors.last_line(self._end.error)}") from self._end.error

    def watch(self) -> None:
        """Leave workers behind that are over the time limit."""
        for stage in self._stages:
            for id in stage.leave_late(self._work.limit_s):
                _LOGGER.warning("%s took over %g s in %s, the time limit; it is retried", id, self._work.limit_s, stage.name)
                time_limit.mark(id, self._work)

    def is_loading(self, stage: str) -> bool:
        """Tell whether every worker of a stage is still starting."""
        return any(other.name == stage and other.is_loading for other in self._stages)

    def stop(self) -> None:
        """Stop the flow; its threads end with the row at work, which is dropped."""
        self._end.come()
        until = time.monotonic() + END_S
        for stage in self._stages:
            stage.join(until)
        with contextlib.suppress(ValueError):  # a thread that has not ended reads it
            self._tables.close()

    def stats(self) -> str:
        """Return no statistics."""
        return ""


class _EndedError(Exception):
    """The flow was stopped, or a worker failed."""


class _End:
    """The end of a flow, for all its threads: stopped, or ended by the first error of a worker."""

    def __init__(self) -> None:
        self._has_come = threading.Event()
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def come(self, error: BaseException | None = None) -> None:
        with self._lock:
            if not self._has_come.is_set():
                self.error = error
            self._has_come.set()

    def refuse(self) -> None:
        """Raise once the end has come."""
        if self._has_come.is_set():
            raise _EndedError


@dataclasses.dataclass(eq=False)
class _Worker:
    """One worker of a stage: the tracks at work, and since when; none while it waits."""

    ids: Sequence[str] = ()
    since: float | None = None
    is_left: bool = False


class _Stage:
    """The workers of one stage, and the queue of the rows that they yield."""

    def __init__(
        self, name: str, make: Callable[[], Stage], blocks: Iterator[pa.Table], end: _End, *, workers: int, ahead: int
    ) -> None:
        """Take the stage before's rows, and a function that makes the stage; each worker has one of its own."""
        self.name, self.is_loading = name, True
        self._make, self._blocks, self._end = make, blocks, end
        self._taking, self._lock = threading.Lock(), threading.Lock()
        self._queued: queue.Queue[pa.Table | None] = queue.Queue(ahead)
        self._at_work = workers
        self._workers = list[_Worker]()
        self._threads = list[threading.Thread]()

    def start(self) -> None:
        """Start the workers."""
        for _ in range(self._at_work):
            self._add(_Worker())

    def rows(self) -> Iterator[pa.Table]:
        """Yield the stage's rows as they come."""
        while (row := self._take()) is not None:
            yield row
            del row  # before the next one is awaited: a part is large

    def leave_late(self, limit_s: float) -> list[str]:
        """Leave workers behind that have been at one row for longer than this; return the ids of their tracks."""
        late, now = list[_Worker](), time.monotonic()
        with self._lock:
            for worker in self._workers:
                if worker.since is not None and now - worker.since > limit_s:
                    worker.is_left = True
                    late.append(worker)
            self._workers = [worker for worker in self._workers if not worker.is_left]
        for _ in late:
            self._add(_Worker())
        return [id for worker in late for id in worker.ids]

    def join(self, until: float) -> None:
        """Wait for the threads of workers, at most until this time of the monotonic clock."""
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _add(self, worker: _Worker) -> None:
        self._workers.append(worker)
        self._threads.append(threading.Thread(target=self._run, args=(worker,), name=self.name, daemon=True))
        self._threads[-1].start()

    def _run(self, worker: _Worker) -> None:
        try:
            stage = self._make()
            self.is_loading = False
            while not worker.is_left and (block := self._next_block()) is not None:
                rows = stage(block)
                ids = block.column("id").to_pylist()
                del block
                while (row := self._timed(worker, ids, rows)) is not None:
                    self._put(row)
                    del row
        except _EndedError:
            return
        except BaseException as error:  # noqa: BLE001 (raised again by the flow's rows)
            self._end.come(error)
            return
        with self._lock:
            if worker.is_left:  # another took its place
                return
            self._at_work -= 1
            is_last = not self._at_work
        if is_last:
            with contextlib.suppress(_EndedError):
                self._put(None)

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

    def _take(self) -> pa.Table | None:
        while True:
            self._end.refuse()
            try:
                return self._queued.get(timeout=LOOK_S)
            except queue.Empty:
                continue

    def _put(self, row: pa.Table | None) -> None:
        while True:
            self._end.refuse()
            try:
                return self._queued.put(row, timeout=LOOK_S)
            except queue.Full:
                continue
