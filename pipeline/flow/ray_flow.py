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
from sep_batch.pipeline.flow.actors import ActorWatch
from sep_batch.pipeline.flow.joins import join_parts, joined
from sep_batch.pipeline.flow.ray_data import RunningDataset, logs, message, with_stage
from sep_batch.pipeline.flow.resources import NICENESS, Resources
from sep_batch.pipeline.out.plan import read_plan
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.long_tracks import Gathering
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

CPUS_PER_READ = 0.1
FEWEST_READS, ANALYZE_PER_READ = 2, 4  # plan files read at once; without a bound, Ray Data starts all reads before it takes a row


class Plan(Datasource):
    """Reads a plan's files, one task per file."""

    def __init__(self, uris: Sequence[str], options: storage.Options) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._uris, self._options = uris, options

    def get_name(self) -> str:
        """Return the text that follows `Read` in the operator's name."""
        return ""

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is unknown before the files are read."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Return one task per file, for any requested parallelism."""
        metadata = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_read, uri, self._options), metadata) for uri in self._uris]


def _read(uri: str, options: storage.Options) -> Iterator[pa.Table]:
    storage.use(options)
    yield read_plan(uri)


class RayFlow:
    """The stages over a plan's files, as a Ray Data pipeline."""

    def __init__(
        self, plan: Sequence[str], work: RunContext, model: str, resources: Resources, *, blocks_per_file: int = 1
    ) -> None:
        """Build the flow; it runs when its rows are read.

        Args:
            plan: URIs of the plan's files.
            work: Context of the run, for every stage.
            model: Folder of the converted model that Separate loads.
            resources: Actors of each stage.
            blocks_per_file: Number of blocks that each file is split into for Analyze, each made when it is taken.
        """
        analyze, separate, write = resources.analyze, resources.separate, resources.write
        # With more blocks than read tasks, Ray Data splits each task's block. It would join several blocks yielded by one task.
        rows = ray.data.read_datasource(
            Plan(plan, work.storage),
            override_num_blocks=len(plan) * blocks_per_file,
            compute=TaskPoolStrategy(max(FEWEST_READS, math.ceil(analyze.actors / ANALYZE_PER_READ))),
            num_cpus=CPUS_PER_READ,
        )
        niceness: dict[str, object] = {"niceness": NICENESS}
        rows = with_stage(rows, Analyze, (work,), niceness, analyze)
        options: dict[str, object] = {"device": resources.device, "threads": separate.threads}
        # The model's folder is on the driver's machine: other machines get the weights through Ray's object store, once each.
        source = partial(ray.get, ray.put(weights.load(Path(model)).tensors)) if resources.nodes > 1 else model
        rows = with_stage(rows, Separate, (work, source), options, separate)
        rows = with_stage(rows, Write, (work,), niceness, write)
        self._work, self._running, self._actors = work, RunningDataset(rows), ActorWatch()

    def rows(self) -> Iterator[pa.Table]:
        """Run the flow, as `Flow.rows` does."""
        gathering, joins, log_folder = Gathering(), list[ray.ObjectRef[pa.Table]](), logs()
        try:
            for batch in self._running.tables():
                finished, whole = gathering.take(batch)
                joins += [join_parts.remote(parts, self._work) for parts in whole]
                if finished:
                    yield pa.concat_tables(finished)
                yield from joined(joins, timeout_s=0)
            while joins:
                yield from joined(joins, timeout_s=None)
        except ray.exceptions.RayError as error:
            raise errors.NotRunnableError(
                f"the pipeline failed in Ray: {message(error)}; see Ray's logs: {log_folder}"
            ) from error

    def watch(self) -> None:
        """Give up actors that lost their node."""
        self._actors.look(self._running.actors())

    def is_loading(self, stage: str) -> bool:
        """Tell whether every actor of a stage is still starting."""
        return self._running.is_loading(stage)

    def stop(self) -> None:
        """Stop the flow; blocks at work are lost."""
        self._running.stop()

    def stats(self) -> str:
        """Return Ray Data's statistics of the finished run."""
        return self._running.stats()
