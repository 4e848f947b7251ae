"""The stages as a Ray Data pipeline: Read -> Analyze -> Separate -> Write."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import ray
import ray.data
from ray.data import DataContext, Datasource, ReadTask, TaskPoolStrategy
from ray.data.block import BlockMetadata

from sep_batch.model import weights
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.flow.joins import join_parts, joined
from sep_batch.pipeline.flow.ray_data import RunningDataset, last_line, logs, with_stage
from sep_batch.pipeline.flow.resources import NICENESS, Resources
from sep_batch.pipeline.out.plan import read_plan
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.long_tracks import Gathering
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

CPUS_PER_READ = 0.1
FEWEST_READS, ANALYZE_PER_READ = 2, 4  # files read at once; without a bound, Ray Data begins all tasks before it looks at a row


class Plan(Datasource):
    """Reads a plan's files, one task a file."""

    def __init__(self, uris: Sequence[str], options: storage.Options) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._uris, self._options = uris, options

    def get_name(self) -> str:
        """Return what follows `Read` in the operator's name."""
        return ""

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: not known before it is read."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Return one task a file, whatever Ray would like."""
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_read, uri, self._options), metadata) for uri in self._uris]


def _read(uri: str, options: storage.Options) -> Iterator[pa.Table]:
    storage.use(options)
    yield read_plan(uri)


def build(plan: Sequence[str], work: RunContext, model: str, resources: Resources, *, blocks_per_file: int = 1) -> RunningDataset:
    """Build the flow over a plan's files; it runs when its rows are asked for.

    Args:
        plan: The plan's files.
        blocks_per_file: Blocks that each file is split into on its way to Analyze, one after another as they are taken.
        work: Settings and places of the run, which every stage is given.
        model: Where Separate finds its weights.
        resources: The pools.

    Returns:
        A dataset of finished rows, in whatever order they are done.
    """
    analyze, separate, write = resources.analyze, resources.separate, resources.write
    # More blocks than read tasks: Ray Data splits each task's block into as many. What a task yields itself, it would join.
    rows = ray.data.read_datasource(
        Plan(plan, work.storage),
        override_num_blocks=len(plan) * blocks_per_file,
        compute=TaskPoolStrategy(max(FEWEST_READS, math.ceil(analyze.actors / ANALYZE_PER_READ))),
        num_cpus=CPUS_PER_READ,
    )
    giving_way: dict[str, object] = {"niceness": NICENESS if resources.device == "cpu" else 0}
    rows = with_stage(rows, Analyze, (work,), giving_way, analyze)
    options: dict[str, object] = {"device": resources.device, "threads": separate.threads}
    # The model's folder is on the driver's machine: to others the weights go through Ray's object store, once to each.
    brought = partial(ray.get, ray.put(weights.load(Path(model))[1])) if resources.nodes > 1 else model
    rows = with_stage(rows, Separate, (work, brought), options, separate)
    rows = with_stage(rows, Write, (work,), giving_way, write)
    return RunningDataset(rows)


def finished_rows(dataset: RunningDataset, work: RunContext) -> Iterator[pa.Table]:
    """Run a flow and yield its finished tracks' rows as they come; long tracks are joined on the way.

    Raises:
        NotRunnableError: Its actors could not start, or Ray itself failed.
    """
    gathering, joins, where = Gathering(), list[ray.ObjectRef[pa.Table]](), logs()
    try:
        for batch in dataset.tables():
            finished, whole = gathering.take(batch)
            joins += [join_parts.remote(parts, work) for parts in whole]
            if finished:
                yield pa.concat_tables(finished)
            yield from joined(joins, timeout_s=0)
        while joins:
            yield from joined(joins, timeout_s=None)
    except ray.exceptions.RayError as error:
        raise errors.NotRunnableError(f"the flow could not run: {last_line(error)}; Ray's logs: {where}") from error
