"""An export as a Ray Data pipeline of one step: a task reads its files of the plan, and writes their shards.

It has tasks, not actors: nothing is loaded that would be kept, and without actors no task waits for CPUs that they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.export.settings import Export
from sep_batch.pipeline.export.shards import SHARD, make_shard
from sep_batch.pipeline.flow.ray_data import RunningDataset, message, with_tasks
from sep_batch.pipeline.out.plan import read_plan

_EACH_ROW_A_BLOCK = 1  # byte: a shard's row then reaches the driver when the shard is done, not at the task's end


class ExportFlow:
    """The shards of some plan files, made in Ray."""

    def __init__(self, plan: Sequence[str], export: Export, *, cpus: int | None) -> None:
        """Take the plan's files, and the number of CPUs to use at most; None is all."""
        context = DataContext.get_current()
        before, context.target_max_block_size = context.target_max_block_size, _EACH_ROW_A_BLOCK
        try:
            files = ray.data.from_arrow(pa.table({"file": list(plan)}), override_num_blocks=len(plan))
            self._dataset = RunningDataset(with_tasks(files, partial(_write, export=export), cpus))
        finally:
            context.target_max_block_size = before

    def rows(self) -> Iterator[dict[str, Any]]:
        """Run it, and yield rows of `SHARD` as shards are done.

        Raises:
            NotRunnableError: Ray itself failed.
        """
        try:
            for table in self._dataset.tables():
                yield from table.to_pylist()
        except ray.exceptions.RayError as error:
            raise errors.NotRunnableError(f"the export could not run: {message(error)}") from error

    def stop(self) -> None:
        """Stop it; unfinished shards are lost."""
        self._dataset.stop()


def _write(files: pa.Table, export: Export) -> Iterator[pa.Table]:
    storage.use(export.storage)
    for uri in files.column("file").to_pylist():
        for planned in read_plan(uri).to_pylist():
            yield pa.Table.from_pylist([make_shard(planned, export)], schema=SHARD)
