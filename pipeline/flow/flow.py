"""The stages as a Ray Data pipeline: Read -> Analyze -> Separate -> Write, with the resources each may use.

Defaults of Ray Data 2.60 that do not fit are changed here, each with its reason: endless retries, and a deadlock where actors ask
for all CPUs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask, TaskPoolStrategy
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data.block import BlockMetadata

from sep_batch.model import weights
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.flow.actors import Pools
from sep_batch.pipeline.out.plan import read_plan
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import Work
from sep_batch.pipeline.stages.long_tracks import Gathering, join
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

CPUS_PER_SEPARATE = 8  # more threads than this make one U-Net no faster
CPU_SHARE_OF_SEPARATE = 0.75  # of the CPUs, where there is no GPU: measured on the 8 songs
READY_ON_CPU, READY_ON_GPU = 0.5, 2.0  # of what a stage has at work; a GPU is done with a part before the next is sent
NICENESS = 10  # of Analyze, Write and joins, where the U-Nets run on the same CPUs: they work while Separate waits
CPUS_PER_READ = 0.1
FEWEST_READS, ANALYZE_PER_READ = 2, 4  # files read at once; without a bound, Ray Data begins all tasks before it looks at a row
CPUS_PER_JOIN = 0.1  # so that it always finds room beside the actors, whose own CPUs it takes turns on
USABLE_CPUS = 0.9  # what actors may take together; Ray Data hangs where they take all
_LOST = (  # what a task ends with that was lost with its process, its node, or what it was given
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
)
_EXECUTORS: weakref.WeakKeyDictionary[ray.data.Dataset, StreamingExecutor] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Pool:
    """One stage's actors: how many, and what each takes."""

    actors: int
    cpus: float
    gpus: int = 0
    threads: int = 1
    tasks: int | None = None  # in flight at an actor; by default Ray's
    minimum: int = 1  # actors that are there from the start


@dataclass(frozen=True)
class Resources:
    """The pools of a flow. Analyze and Write scale between one actor and their size; Separate has one actor a GPU.

    Attributes:
        analyze: Fetch, decode, STFT.
        separate: U-Nets.
        write: Encode, put.
        device: Torch's name of what Separate runs on.
        nodes: Machines they are spread over.
    """

    analyze: Pool
    separate: Pool
    write: Pool
    device: str
    nodes: int = 1

    def one_at_a_time(self) -> Resources:
        """Return the same with one actor a stage and one task in flight: for tracks that were lost with their process."""
        analyze, separate, write = (
            dataclasses.replace(pool, actors=1, tasks=1, minimum=1) for pool in (self.analyze, self.separate, self.write)
        )
        return dataclasses.replace(self, analyze=analyze, separate=separate, write=write)


def plan_resources(
    cpus: int, gpus: int, *, device: str | None = None, min_gpus: int | None = None, nodes: Sequence[int] | None = None
) -> Resources:
    """Share CPUs and GPUs out among the stages, so that all actors fit and something is left for reading.

    Args:
        cpus: Of the machine or cluster.
        gpus: One Separate actor each; 0 runs the U-Nets on the CPU.
        device: Torch's; by default cuda where there are GPUs.
        min_gpus: Those that are there from the start; by default all.
        nodes: CPUs of each machine of a cluster; an actor has to fit into one.
    """
    if gpus:
        side = max(1, round((cpus - 1) / 2))
        wanted = [Pool(side, 1), Pool(gpus, 0, gpus=1, threads=1, minimum=min_gpus or gpus), Pool(side, 1)]
    else:
        largest = max(1, min(cpus, max(nodes or [cpus])))
        on_one = max(1, round(largest * CPU_SHARE_OF_SEPARATE / CPUS_PER_SEPARATE))
        threads = max(1, math.ceil(largest * CPU_SHARE_OF_SEPARATE / on_one))
        actors = max(1, on_one * min(cpus, sum(min(there, largest) for there in nodes or [cpus])) // largest)
        side = max(1, cpus // 8)
        separate = Pool(actors, 1 if largest < CPUS_PER_SEPARATE else threads, threads=threads, tasks=1, minimum=actors)
        wanted = [Pool(side, 1), separate, Pool(side, 1)]
    taken = sum(pool.actors * pool.cpus for pool in wanted)
    scale = min(1.0, USABLE_CPUS * cpus / taken)
    analyze, separate, write = (dataclasses.replace(p, cpus=_share(p.cpus * scale)) for p in wanted)
    return Resources(analyze, separate, write, device or ("cuda" if gpus else "cpu"), len(nodes or [cpus]))


def _share(cpus: float) -> float:
    """Round down to what Ray takes: whole CPUs above one, hundredths below."""
    return math.floor(cpus) if cpus >= 1 else math.floor(cpus * 100) / 100


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


def configure(resources: Resources) -> None:
    """Set what every flow needs of Ray Data, on the driver, once Ray has started."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a block lost with its process is found missing by the driver, which runs it again
    # Ray Data's memory budgets count a block several times over, and held Separate back until Write was done. Instead: a stage
    # waits where so much of what the next one has at work lies ready for it, and a task where a block of its own was not taken.
    context.op_resource_reservation_enabled = False
    context.downstream_capacity_backpressure_ratio = READY_ON_GPU if resources.separate.gpus else READY_ON_CPU
    context._max_num_blocks_in_streaming_gen_buffer = 1  # noqa: SLF001 (the only place where it is set)
    context.issue_detectors_config.detectors = []
    _quiet()
    warnings.filterwarnings("ignore", module=r"ray\.data")
    context.execution_options.preserve_order = False


def _quiet() -> None:
    """Leave to Ray Data its file among Ray's logs and no terminal, and have Ray's own errors shown as ours are.

    What its other machines and actors report, Ray prints to stdout, asked for or not, as that an actor we ended was ended.
    """
    ray._private.worker.print_to_stdstream = _note  # type: ignore[assignment]  # noqa: SLF001 (nothing else stops it)
    data, ours = logging.getLogger("ray.data"), logging.getLogger("ray")
    data.handlers = [handler for handler in data.handlers if not isinstance(handler, logging.StreamHandler)]
    data.setLevel(logging.INFO)
    ours.handlers.clear()
    ours.propagate = True


def _note(reported: dict[str, Any], *_: object, **__: object) -> None:
    logging.getLogger("ray").info("; ".join(reported["lines"]))


def logs() -> str:
    """Return the folder of Ray's logs, on each machine that it runs on."""
    here = ray.get_runtime_context()
    return f"{here.get_temp_dir()}/{here.get_session_name()}/logs"


def build(plan: Sequence[str], work: Work, model: str, resources: Resources, *, blocks_per_file: int = 1) -> ray.data.Dataset:
    """Build the flow over a plan's files; it runs when its rows are asked for.

    Args:
        plan: The plan's files.
        blocks_per_file: Blocks that each file is split into on its way to Analyze, one after another as they are taken.
        work: What every stage is told.
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
    rows = _stage(rows, Analyze, (work,), giving_way, analyze)
    options: dict[str, object] = {"device": resources.device, "threads": separate.threads}
    # The model's folder is on the driver's machine: to others the weights go through Ray's object store, once to each.
    brought = partial(ray.get, ray.put(weights.load(Path(model))[1])) if resources.nodes > 1 else model
    rows = _stage(rows, Separate, (work, brought), options, separate)
    rows = _stage(rows, Write, (work,), giving_way, write)
    rows._create_executor = partial(_created, rows, rows._create_executor)  # type: ignore[method-assign]  # noqa: SLF001
    return rows


def _created(dataset: ray.data.Dataset, create: Callable[[], StreamingExecutor]) -> StreamingExecutor:
    """Keep a flow's executor from its start on; the dataset itself names it only once there is a first row."""
    _EXECUTORS[dataset] = create()
    return _EXECUTORS[dataset]


def finished_rows(dataset: ray.data.Dataset, work: Work) -> Iterator[pa.Table]:
    """Run a flow and yield its finished tracks' rows as they come; long tracks are joined on the way.

    Raises:
        NotRunnableError: Its actors could not start, or Ray itself failed.
    """
    gathering, joins, where = Gathering(), list[ray.ObjectRef[pa.Table]](), logs()
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            finished, whole = gathering.take(batch)
            joins += [_join.remote(parts, work) for parts in whole]
            if finished:
                yield pa.concat_tables(finished)
            yield from _joined(joins, timeout_s=0)
        while joins:
            yield from _joined(joins, timeout_s=None)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        found = lines[-1] if lines else type(error).__name__
        raise errors.NotRunnableError(f"the flow could not run: {found}; Ray's logs: {where}") from error


@ray.remote(num_cpus=CPUS_PER_JOIN, max_retries=1)
def _join(parts: list[pa.Table], work: Work) -> pa.Table:
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    storage.use(work.storage)
    return join(parts, work)


def _joined(joins: list[ray.ObjectRef[pa.Table]], *, timeout_s: float | None) -> Iterator[pa.Table]:
    """Yield the rows of the joins that are done, and take them out of the list; what died is run again by the driver."""
    if not joins:
        return
    done, joins[:] = ray.wait(joins, num_returns=1 if timeout_s is None else len(joins), timeout=timeout_s)
    for one in done:
        with contextlib.suppress(*_LOST):
            yield ray.get(one)


def is_loading(dataset: ray.data.Dataset) -> bool:
    """Tell whether every actor of Separate is still starting: loading torch and the model."""
    executor = _EXECUTORS.get(dataset)
    stages = (executor and executor._topology) or ()  # noqa: SLF001 (no other way to see actors)
    return not any(stage.get_actor_info().running for stage in stages if Separate.__name__ in stage.name)


def watch(dataset: ray.data.Dataset, pools: Pools) -> None:
    """Look after a flow's actors, as `Pools.look` does."""
    pools.look(_EXECUTORS.get(dataset))


def stop(dataset: ray.data.Dataset) -> None:
    """End a flow that is not wanted any more; what it was at work on is lost."""
    executor = _EXECUTORS.get(dataset)  # Ray Data ends it only with the dataset
    if executor is not None:
        executor.shutdown(force=True)


def stats(dataset: ray.data.Dataset) -> str:
    """Return Ray Data's own account of a flow that ran."""
    return str(dataset.stats())


def _stage(
    rows: ray.data.Dataset, stage: type, arguments: tuple[object, ...], options: dict[str, object], pool: Pool
) -> ray.data.Dataset:
    """Add one stage. The public map_batches refuses whole blocks on a GPU; its inner form takes them."""
    actors = ActorPoolStrategy(
        min_size=pool.minimum,
        max_size=pool.actors,
        initial_size=pool.actors if pool.gpus else pool.minimum,  # so that GPUs that are not there yet are asked for
        max_tasks_in_flight_per_actor=pool.tasks,
    )
    return rows.map_batches_internal(
        stage,
        batch_size=None,
        batch_format="pyarrow",
        fn_constructor_args=arguments,
        fn_constructor_kwargs=options,
        compute=actors,
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        max_restarts=-1,
        max_task_retries=1,  # Ray's default is without end
    )
