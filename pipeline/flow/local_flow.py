"""The stages in threads of this process, without Ray: Read -> Analyze -> Separate -> Write.

Each stage has a bounded queue of rows behind it, and each worker holds one row more, so that only a few parts are in memory. A
worker over the time limit is left behind: it ends where it next looks, what it still yields is dropped, a new worker takes its
place, and the driver's next pass takes its track.
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
from concurrent.futures import Future, ThreadPoolExecutor

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
FINISHED_AHEAD = 1_000  # rows behind Write, a few kB each
MOST_LEFT = 4  # workers of a stage that were left behind and have not ended: with more, the machine is at fault and no track
START_S = 600.0  # for a worker to start: Separate loads torch and the weights
LOOK_S = 0.1  # between two checks of a waiting thread for the end of the flow
END_S = 2.0  # for threads to end once the flow was stopped
_LOGGER = logging.getLogger("sep_batch")

Stage = Callable[[pa.Table], Iterator[pa.Table]]
Make = Callable[[RunContext], Stage]


def prepare(*, on_cpu: bool) -> None:
    """Start a decoder and import torch, so that a flow that is built soon begins at once. Returns at once itself.

    Args:
        on_cpu: The U-Nets will run on the CPU, so the decoder's process yields to them, as Analyze does.
    """

    def start_decoder() -> None:
        os.nice(_niceness(on_cpu=on_cpu))  # of this thread, and of the processes that it starts
        audio.start()

    for load in (start_decoder, lambda: importlib.import_module("sep_batch.model.separator")):
        threading.Thread(target=_tried, args=(load,), daemon=True, name="prepare").start()


def _tried(load: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):  # raised again by the stages
        load()


def _niceness(*, on_cpu: bool) -> int:
    """Return the niceness of Analyze, Write and joins: on Linux each thread has its own, elsewhere it is the whole process's."""
    return NICENESS if on_cpu and sys.platform == "linux" else 0


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
        """Build the flow; the arguments are those of `RayFlow`. Here each track is a block."""
        self._end = _End()
        self._work = work = dataclasses.replace(work, has_ended=self._end.has_come)
        niceness = _niceness(on_cpu=resources.device == "cpu")
        separate = resources.separate
        self._joins = ThreadPoolExecutor(1, "Join", initializer=os.nice, initargs=(niceness,))
        self._tables = read_plans(plan)
        tracks = (row for table in self._tables for row in each(table))
        makes: tuple[tuple[str, Make, int, int], ...] = (
            ("Analyze", lambda work: Analyze(work, niceness=niceness), resources.analyze.actors, PARTS_AHEAD),
            (
                "Separate",
                lambda work: Separate(work, model, device=resources.device, threads=separate.threads),
                separate.actors,
                PARTS_AHEAD,
            ),
            ("Write", lambda work: Write(work, niceness=niceness), resources.write.actors, FINISHED_AHEAD),
        )
        self._stages = list[_Stage]()
        for name, make, workers, ahead in makes:
            rows = self._stages[-1].rows() if self._stages else tracks
            self._stages.append(_Stage(name, make, work, rows, self._end, workers=workers, ahead=ahead))

    def rows(self) -> Iterator[pa.Table]:
        """Run the flow, as `Flow.rows` does."""
        for stage in self._stages:
            stage.start()
        gathering, joins = Gathering(), list[Future[pa.Table]]()
        try:
            for row in self._stages[-1].ticking_rows():
                if row is not None:
                    finished, whole = gathering.take(row)
                    yield from finished
                    joins += [self._joins.submit(join, parts, self._work) for parts in whole]
                yield from _done(joins)
            while joins:
                self._end.refuse()
                time.sleep(LOOK_S)
                yield from _done(joins)
        except _EndedError:
            if (error := self._end.error) is None:
                return
            if isinstance(error, errors.RunError):
                raise error from None
            raise errors.NotRunnableError(f"the pipeline failed: {type(error).__name__}: {errors.last_line(error)}") from error

    def watch(self) -> None:
        """Leave workers behind that are over the time limit.

        Raises:
            NotRunnableError: A worker does not start, or several hang.
        """
        for stage in self._stages:
            for id in stage.leave_late(self._work.limit_s):
                _LOGGER.warning("%s took over %g s in %s, the time limit", id, self._work.limit_s, stage.name)
                # on a thread: the storage may be what hangs
                threading.Thread(target=time_limit.mark, args=(id, self._work), daemon=True, name="mark").start()

    def is_loading(self, stage: str) -> bool:
        """Tell whether every worker of a stage is still starting."""
        return any(other.name == stage and other.is_loading for other in self._stages)

    def stop(self) -> None:
        """Stop the flow; its threads end where they next look, and what they have is dropped."""
        self._end.come()
        self._joins.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + END_S
        for stage in self._stages:
            stage.join(until)
        with contextlib.suppress(ValueError):  # a thread that has not ended reads it
            self._tables.close()

    def stats(self) -> str:
        """Return no statistics."""
        return ""


def _done(joins: list[Future[pa.Table]]) -> Iterator[pa.Table]:
    """Yield the rows of finished joins, and remove these from the list."""
    done = [future for future in joins if future.done()]
    joins[:] = [future for future in joins if future not in done]
    yield from (future.result() for future in done)


class _EndedError(Exception):
    """The flow was stopped, or a worker failed."""


class _End:
    """The end of a flow, for all its threads: stopped, or ended by the first error of a worker."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def come(self, error: BaseException | None = None) -> None:
        with self._lock:
            if not self._event.is_set():
                self.error = error
            self._event.set()

    def has_come(self) -> bool:
        return self._event.is_set()

    def refuse(self) -> None:
        """Raise once the end has come."""
        if self._event.is_set():
            raise _EndedError


@dataclasses.dataclass(eq=False)
class _Worker:
    """One worker of a stage: the tracks at work, none while it starts; and since when, None while it waits."""

    ids: Sequence[str] = ()
    since: float | None = None
    is_left: bool = False
    thread: threading.Thread | None = None


class _Stage:
    """The workers of one stage, and the queue of the rows that they yield."""

    def __init__(
        self, name: str, make: Make, work: RunContext, blocks: Iterator[pa.Table], end: _End, *, workers: int, ahead: int
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
            self._workers = [worker for worker in self._workers if worker.thread is None or worker.thread.is_alive()]
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
            if worker.thread is not None:
                worker.thread.join(max(0.0, until - time.monotonic()))

    def _add(self) -> None:
        worker = _Worker()
        worker.thread = threading.Thread(target=self._run, args=(worker,), name=self.name, daemon=True)
        with self._lock:
            self._workers.append(worker)
        worker.thread.start()

    def _run(self, worker: _Worker) -> None:
        try:
            self._work_off(worker)
        except _EndedError:
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
            with contextlib.suppress(_EndedError):
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
