"""Driver of an export: passes the shards that are left through the flow, and journals the rows that come out."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from sep_batch.jobs.engine import engine
from sep_batch.jobs.export.report import Exported
from sep_batch.jobs.progress.file_counter import FileCounter
from sep_batch.jobs.setup import machine
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.setup.stop import Stop, ticking
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.export import excerpts
from sep_batch.pipeline.export.journal import Key, ShardJournal, done
from sep_batch.pipeline.export.selection import Selection
from sep_batch.pipeline.export.settings import Export
from sep_batch.pipeline.export.shards import SHARD, lost
from sep_batch.pipeline.out import layout, lease
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.threads import in_threads

PASSES = 3  # shards lost with their process are run again twice
MOST_PLAN_FILES = 2000  # each is a Ray task; in a large export a file holds several shards


@dataclass
class ExportDriver:
    """Runs an export to its end.

    Attributes:
        export: Settings and folders that every worker is given.
        run: Name of this run of the export.
        selection: Rows that the plan is made from, again for every pass: the plan is never held in memory.
        exported: Counts; updated with every finished shard.
        stop: Request to end the export early.
        held: DEST's lease.
        tally: Progress counter of shards.
    """

    export: Export
    run: str
    selection: Selection
    exported: Exported
    stop: Stop
    held: lease.Lease
    tally: FileCounter
    _finished: set[Key] = field(default_factory=set)

    def run_all(self, *, cpus: int | None, address: str | None) -> None:
        """Write all shards that are not done; write shards with failed tracks again.

        Raises:
            BugError: A track failed because of a defect of sep-batch.
            NotRunnableError: The flow could not run, or a storage is unusable.
            LeaseHeldError: Another export has taken DEST over.
        """
        before = done(self.export.dest)
        self._finished = {key for key, shard in before.items() if not shard.failed}
        self.exported.done_before = len(self._finished)
        left = self.exported.shards - len(self._finished)
        if not left:
            return
        options = Options(gpus=0, cpus=cpus, address=address)
        local = (uri for uri in (self.export.out, self.export.dest) if uris.is_local(uri))
        engine.set_environment(options)
        with (
            engine.running(options, machine.requirements(options, next(local, None))),
            self.stop.on_signals(),
            self.tally.step("written", left) as count_written,
            ShardJournal(self.export.dest, self.run, check=self.held.check) as journal,
            self.stop.draining(),
        ):
            for number in range(PASSES):
                if left and not self.stop.is_asked:
                    self._pass(journal, count_written, 1 if number else math.ceil(left / MOST_PLAN_FILES), cpus)
                    left = self.exported.shards - len(self._finished)
            if left and not self.stop.is_asked:
                self._give_up(journal)
        if self.stop.is_asked and left:
            self.exported.stopped = f"{self.stop.why}; run the same command again to resume"

    def _pass(self, journal: ShardJournal, count_written: Callable[[int], None], per_file: int, cpus: int | None) -> None:
        from sep_batch.pipeline.export.flow import ExportFlow

        flow = ExportFlow(self._written_plan(per_file), self.export, cpus=cpus)
        try:
            with contextlib.closing(ticking(flow.rows())) as rows:
                for row in rows:
                    if row is not None:
                        self._take(row, journal)
                        count_written(1)
                    if self.stop.is_asked:
                        return
        finally:
            flow.stop()

    def _take(self, row: dict[str, Any], journal: ShardJournal) -> None:
        if row["unusable"]:
            raise errors.NotRunnableError(f"storage: {row['unusable']}")
        self._finished.add((row["split"], row["shard"]))
        journal.add(pa.Table.from_pylist([row], schema=SHARD))
        self.exported.take(row)
        for fault in row["failed"]:
            if fault["error_class"] == errors.BUG:
                raise errors.BugError(f"a defect of sep-batch, on track {fault['id']}:\n{fault['error']}")

    def _give_up(self, journal: ShardJournal) -> None:
        """Fail the shards that no pass finished."""
        for planned in self._left():
            error = errors.WorkerCrash(f"its shard's process died in each of {PASSES} passes")
            self._take(lost(planned, error), journal)

    def _left(self) -> Iterator[dict[str, Any]]:
        shards = excerpts.lay_out(self.selection.rows(), self.export.settings)
        return (shard for shard in shards if (shard["split"], shard["shard"]) not in self._finished)

    def _written_plan(self, per_file: int) -> list[str]:
        """Write the plan of the shards that are left, `per_file` in each file; return the URIs of the files."""
        schema, left = excerpts.schema(self.selection.extra), self._left()
        folder = layout.plan_folder(self.export.dest, self.run)
        scratch = layout.parts_folder(self.export.dest, self.run)

        def put(block: tuple[int, Sequence[Mapping[str, Any]]]) -> str:
            number, shards = block
            content = io.BytesIO()
            pyarrow.parquet.write_table(pa.Table.from_pylist(shards, schema=schema), content)
            uri = f"{folder}/{number:06d}.plan"  # not .parquet: a reader of DEST would take it for a part of the dataset
            storage.put(uri, content.getvalue(), scratch=scratch)
            return uri

        blocks = iter(lambda: list(itertools.islice(left, per_file)), [])
        return list(in_threads(put, enumerate(blocks)))
