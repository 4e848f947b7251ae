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
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.flow.resources import NICENESS, Resources
from sep_batch.pipeline.flow.workers import LOOK_S, End, EndedError, Make, Workers
from sep_batch.pipeline.out.plan import read_plans
from sep_batch.pipeline.rows import each
from sep_batch.pipeline.stages import time_limit
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.long_tracks import Gathering, join
from sep_batch.pipeline.stages.process import release_memory
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

PARTS_AHEAD = 1  # rows behind Analyze and Separate: a part of four minutes has 170 MB
FINISHED_AHEAD = 1_000  # rows behind Write, a few kB each
END_S = 2.0  # for threads to end once the flow was stopped
_LOGGER = logging.getLogger("sep_batch")


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
        self._end = End()
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
        self._stages = list[Workers]()
        for name, make, workers, ahead in makes:
            rows = self._stages[-1].rows() if self._stages else tracks
            self._stages.append(Workers(name, make, work, rows, self._end, workers=workers, ahead=ahead))

    def rows(self) -> Iterator[pa.Table]:
        """Run the flow, as `Flow.rows` does."""
        for stage in self._stages:
            stage.start()
        gathering, joins = Gathering(), list[Future[pa.Table]]()
        try:
            for row in self._stages[-1].ticking_rows():
                if row is not None:
                    finished, whole = gathering.take(row)
                    if not finished:  # a part of a long track: rows that last lie between the blocks that parts leave
                        release_memory()
                    yield from finished
                    joins += [self._joins.submit(join, parts, self._work) for parts in whole]
                yield from _done(joins)
            while joins:
                self._end.refuse()
                time.sleep(LOOK_S)
                yield from _done(joins)
        except EndedError:
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
