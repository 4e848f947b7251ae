"""Driver of a run: passes the plan through the flow and journals the rows that come out. It never touches audio."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.engine.choice import Engine
from sep_batch.jobs.progress.bottleneck import COLUMNS
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run import finished
from sep_batch.jobs.run.breaker import Breaker
from sep_batch.jobs.run.gpu_watch import GpuWatch
from sep_batch.jobs.setup.options import MaxFailures
from sep_batch.jobs.setup.stop import Stop, ticking
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.out.finished_ids import FinishedIds
from sep_batch.pipeline.out.journal import Journal
from sep_batch.pipeline.out.plan import blocks_per_file, rows_per_block, write_plan
from sep_batch.pipeline.rows import each, value
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.failed_rows import worker_crash
from sep_batch.pipeline.stages.gpu_faults import Gpu

JUDGED_FROM = 200  # tracks tried before --max-failures can stop a run midway
PASSES = 3  # tracks lost with a process or node are run again: in the second pass one a block, in the third one at a time


@dataclass
class Driver:
    """Runs a plan to its end.

    Attributes:
        work: Settings and folders of the run, which every stage is given.
        model: Folder of the weights.
        engine: Engine of the flow.
        summary: Counts; updated with every finished row.
        max_failures: Bound on failed tracks; above it the run is stopped.
        journal: Writer of the journal.
        progress: Progress display and log; gets every finished row.
        stop: Request to end the run early.
        breaker: Filter that holds back rows whose failure may be the storage's fault.
        flows: Number of flows so far.
    """

    work: RunContext
    model: str
    engine: Engine
    summary: Summary
    max_failures: MaxFailures
    journal: Journal
    progress: Progress
    stop: Stop
    breaker: Breaker
    flows: int = 0
    _gpus: GpuWatch = field(init=False)

    def __post_init__(self) -> None:
        """Begin to watch the GPUs."""
        self._gpus = GpuWatch(self.work)

    def run(self, todo: Iterable[pa.Table], tracks: int, bad_rows: pa.Table | None = None) -> None:
        """Run the flow in up to `PASSES` passes; each one after the first takes the tracks that the previous one lost.

        A pass in which a GPU is given up is continued on the others, by another flow.

        Args:
            todo: Tracks that are left to do, in tables of any size; iterated once, not held in memory.
            tracks: Number of these tracks.
            bad_rows: Rows of the manifest that fail without being tried, as in `Plan.bad_rows`.

        Raises:
            BugError: A row failed because of a defect of sep-batch.
            NotRunnableError: The flow could not run, or a storage is unusable.
            LeaseHeldError: Another run has taken OUT over.
        """
        begun, left, number = time.monotonic(), tracks, 0
        pools = self.engine.resources
        self.summary.actors = {stage: getattr(pools, stage.lower()).actors for stage in COLUMNS}
        self.summary.device, self.summary.format = pools.device, self.work.settings.format
        self.summary.ray_logs = self.engine.logs
        self.progress.start(self.work.settings.sha256)
        if bad_rows is not None:
            finished.fail(bad_rows, self.work.settings.sha256, self.journal, self.summary, self.progress)
        try:
            if self.stop.is_asked:
                self._end_early()
                return
            while number < PASSES:
                plan, finished_ids, gpu = self._pass(todo, left, number)
                if self.summary.stopped:
                    return
                left, todo = left - finished_ids.distinct, finished_ids.lost(plan)
                if not left:
                    break
                if gpu:
                    self._give_up_gpu(gpu)
                else:
                    number += 1
            else:
                self._give_up(todo, left, tracks)
            self._take(self.breaker.rest())
        finally:
            self.summary.seconds = time.monotonic() - begun

    def _pass(self, todo: Iterable[pa.Table], tracks: int, number: int) -> tuple[list[str], FinishedIds, Gpu | None]:
        """Run one flow; return the URIs of its plan files, the ids that finished, and the GPU that is to be given up."""
        rows = 1 if number else rows_per_block(tracks, self.engine.resources.analyze.actors)
        per_file = blocks_per_file(math.ceil(tracks / rows))
        folder = f"{layout.plan_folder(self.work.out, self.work.run)}/{self.flows}"
        plan = write_plan(todo, self._put, folder, rows_per_file=rows * per_file)
        resources = self.engine.resources
        resources = resources.one_at_a_time() if number == PASSES - 1 else resources
        begun, finished_ids = time.monotonic(), FinishedIds()
        flow = self.engine.build(plan, self.work, self.model, resources, blocks_per_file=per_file)
        is_stopping, is_loaded = False, False
        is_first, self.flows = not self.flows, self.flows + 1
        gpu: Gpu | None = None
        try:
            with contextlib.closing(ticking(flow.rows())) as batches:
                for batch in batches:
                    flow.watch()
                    if batch is not None:
                        self._take(self.breaker.take(batch))
                        if not finished_ids and is_first:  # start: time to the first rows, less their stages' time
                            self.summary.start_s = max(0.0, time.monotonic() - begun - sum(self.summary.stage_s.values()))
                        finished_ids.add(batch.column("id").to_pylist())
                        if self.engine.resources.separate.actors == 1 and pc.any(pc.equal(batch.column("status"), "ok")).as_py():
                            self._gpus.forget()
                    elif not finished_ids:
                        is_loaded = is_loaded or not flow.is_loading("Separate")  # an actor that restarts loads again
                        self.progress.wait_for("first tracks under way" if is_loaded else "loading the model")
                    gpu = self._faulty_gpu()
                    if gpu or self.summary.stop_if_over(self.max_failures, from_tracks=JUDGED_FROM) or self.stop.is_over:
                        break
                    if self.stop.is_asked and not is_stopping:
                        self._put(self.work.stop_uri, b"")
                        self.progress.stop(self.stop.why or "")
                        is_stopping = True
        finally:
            flow.stop()
        if self.stop.is_asked and len(finished_ids) < tracks:
            self._end_early()
        self.summary.stats += flow.stats()
        return plan, finished_ids, gpu or self._faulty_gpu(is_due=True)

    def _faulty_gpu(self, *, is_due: bool = False) -> Gpu | None:
        separate = self.engine.resources.separate
        return self._gpus.look(separate.actors, is_due=is_due) if separate.gpus else None

    def _give_up_gpu(self, gpu: Gpu) -> None:
        """Leave a GPU out of all further flows.

        Raises:
            NotRunnableError: It was the last one.
        """
        self._gpus.give_up(gpu)
        resources = self.engine.resources
        left = resources.separate.actors - 1
        if not left:
            given_up = "; ".join(f"{gpu}: {error}" for gpu, error in self._gpus.given_up.items())
            raise errors.NotRunnableError(f"no GPU is left: {given_up}; run the same command again to resume")
        self.engine.hold(gpu)
        separate = replace(resources.separate, actors=left, minimum=min(resources.separate.minimum, left))
        self.engine = replace(self.engine, resources=replace(resources, separate=separate))
        self.summary.actors["Separate"] = left

    def _end_early(self) -> None:
        self.summary.stopped = f"{self.stop.why}; run the same command again to resume"
        self.summary.exit_code = errors.STOPPED

    def _give_up(self, lost: Iterable[pa.Table], left: int, tracks: int) -> None:
        """Fail the tracks that no pass finished."""
        if left == tracks > 1:  # every track was lost, so no single one is the cause, and none is marked as failed
            logs = f"; Ray's logs: {self.summary.ray_logs}" if self.summary.ray_logs else ""
            raise errors.NotRunnableError(f"none of {tracks} tracks came out of the flow in {PASSES} passes{logs}")
        for table in lost:
            self._take([worker_crash(row, self.work, self._gpus.last_error(value(row, "id"))) for row in each(table)])

    def _put(self, uri: str, content: bytes) -> None:
        storage.put(uri, content, scratch=self.work.scratch)

    def _take(self, rows: Sequence[pa.Table]) -> None:
        finished.take(rows, self.journal, self.summary, self.progress)
