"""The driver of a run: passes over the plan, the journal, the counts. It asks the flow for rows and never touches audio."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from sep_batch.jobs.progress.bottleneck import COLUMNS
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run import finished
from sep_batch.jobs.run.breaker import Breaker
from sep_batch.jobs.setup.options import MaxFailures
from sep_batch.jobs.setup.stop import Stop, ticking
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.flow import flow, ray_data
from sep_batch.pipeline.flow.actors import ActorWatch
from sep_batch.pipeline.flow.resources import Resources
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.out.finished_ids import FinishedIds
from sep_batch.pipeline.out.journal import Journal
from sep_batch.pipeline.out.plan import blocks_per_file, rows_per_block, write_plan
from sep_batch.pipeline.rows import each
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.failed_rows import worker_crash

JUDGED_FROM = 200  # tracks tried before --max-failures can stop a run midway
PASSES = 3  # the flow, and twice more for what was lost with its process or node: a row a block, and then each alone


@dataclass
class Driver:
    """Runs a plan to its end.

    Attributes:
        work: Settings and places of the run, which every stage is given.
        model: Where Separate finds its weights.
        resources: The pools.
        summary: Filled as rows come.
        max_failures: The bound over which the run is stopped.
        journal: Takes the rows.
        progress: Told of every row.
        stop: Whether the run shall end early.
        breaker: Tells a storage's failures from the tracks'.
    """

    work: RunContext
    model: str
    resources: Resources
    summary: Summary
    max_failures: MaxFailures
    journal: Journal
    progress: Progress
    stop: Stop
    breaker: Breaker

    def run(self, todo: Iterable[pa.Table], tracks: int, bad_rows: pa.Table | None = None) -> None:
        """Run the flow; then over what was lost with its process a row a block, and over what was lost again each track alone.

        Args:
            todo: The tracks that are left to do, in tables of whatever size; they are asked for once, and not held.
            tracks: How many those are.
            bad_rows: Rows of the manifest that fail without being tried, as `Plan.bad_rows` has them.

        Raises:
            BugError: A row is a defect of ours.
            NotRunnableError: The flow could not run, or a storage is unusable.
            LeaseHeldError: Another run has taken OUT over.
        """
        begun, left = time.monotonic(), tracks
        pools = self.resources
        self.summary.actors = {stage: getattr(pools, stage.lower()).actors for stage in COLUMNS}
        self.summary.device, self.summary.format = pools.device, self.work.settings.format
        self.summary.ray_logs = ray_data.logs()
        self.progress.start(self.work.settings.sha256)
        if bad_rows is not None:
            finished.fail(bad_rows, self.work.settings.sha256, self.journal, self.summary, self.progress)
        try:
            if self.stop.is_asked:
                self._end_early()
                return
            for number in range(PASSES):
                plan, seen = self._pass(todo, left, number)
                if self.summary.stopped:
                    return
                left, todo = left - seen.distinct, seen.lost(plan)
                if not left:
                    break
            else:
                self._give_up(todo, left, tracks)
            self._take(self.breaker.rest())
        finally:
            self.summary.seconds = time.monotonic() - begun

    def _pass(self, todo: Iterable[pa.Table], tracks: int, number: int) -> tuple[list[str], FinishedIds]:
        """Run one pass, and return its plan's files and what came out of it."""
        rows = 1 if number else rows_per_block(tracks, self.resources.analyze.actors)
        per_file = blocks_per_file(math.ceil(tracks / rows))
        folder = f"{layout.plan_folder(self.work.out, self.work.run)}/{number}"
        plan = write_plan(todo, self._put, folder, rows_per_file=rows * per_file)
        resources = self.resources.one_at_a_time() if number == PASSES - 1 else self.resources
        pools = ActorWatch()
        begun, seen = time.monotonic(), FinishedIds()
        dataset = flow.build(plan, self.work, self.model, resources, blocks_per_file=per_file)
        is_stopping = False
        try:
            with contextlib.closing(ticking(flow.finished_rows(dataset, self.work))) as batches:
                for batch in batches:
                    pools.look(dataset.actors())
                    if batch is not None:
                        self._take(self.breaker.take(batch))
                        if not seen and not number:  # what the stages took for it is known, so the rest was their start
                            self.summary.start_s = max(0.0, time.monotonic() - begun - sum(self.summary.stage_s.values()))
                        seen.add(batch.column("id").to_pylist())
                    elif not seen:
                        self.progress.wait_for(
                            "loading the model" if dataset.is_loading("Separate") else "first tracks under way"
                        )
                    if self.summary.stop_if_over(self.max_failures, from_tracks=JUDGED_FROM) or self.stop.is_over:
                        break
                    if self.stop.is_asked and not is_stopping:
                        self._put(self.work.stop_uri, b"")
                        self.progress.stop(self.stop.why or "")
                        is_stopping = True
        finally:
            dataset.stop()
        if self.stop.is_asked and len(seen) < tracks:
            self._end_early()
        self.summary.stats += dataset.stats()
        return plan, seen

    def _end_early(self) -> None:
        self.summary.stopped = f"{self.stop.why}; run the same command again to resume"
        self.summary.exit_code = errors.STOPPED

    def _give_up(self, lost: Iterable[pa.Table], left: int, tracks: int) -> None:
        """Fail the tracks that came out of none of the passes."""
        if left == tracks > 1:  # that is no poisonous track, and none shall be marked as one
            raise errors.NotRunnableError(
                f"none of {tracks} tracks came out of the flow in {PASSES} passes; Ray's logs: {self.summary.ray_logs}"
            )
        for some in lost:
            self._take([worker_crash(row, self.work) for row in each(some)])

    def _put(self, uri: str, content: bytes) -> None:
        storage.put(uri, content, scratch=self.work.scratch)

    def _take(self, rows: Sequence[pa.Table]) -> None:
        finished.take(rows, self.journal, self.summary, self.progress)
