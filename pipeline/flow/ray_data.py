"""Settings of Ray Data, and every private name of it that this project uses, each with the reason.

Check this file first with a new Ray; `tests/pipeline/flow/test_ray_data.py` lists each private use. Ray Data announces that it
takes no free remote arguments from 2.64 on (`max_restarts`, `max_task_retries`, `max_retries`). They can then be set in the
`ray_remote_args` of its logical operator (`dataset._logical_plan.dag`).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.data._internal.cluster_autoscaler.util import is_autoscaling_enabled
from ray.data._internal.execution import backpressure_policy
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from sep_batch.pipeline import errors
from sep_batch.pipeline.flow.resources import BLOCKS_PER_CALL, Pool

BLOCK_BYTES = 64 << 20  # from which on a block takes no further part: a song's part is a block, short clips share one


class BlocksOnTheirWay(backpressure_policy.BackpressurePolicy):
    """Holds a stage back while the next one has enough blocks, by their number: at work, at its actors, and in its queue.

    Ray Data's own policies count bytes. One has no limit until the next stage is at work, which takes a GPU long, and then lets
    three blocks wait for each one that an actor has. The other counts a block several times, and held Separate back until Write
    was done. What no policy sees is one more block for each call: held back, it keeps the block that it has made.
    """

    def can_add_input(self, op: Any) -> bool:
        """Tell whether a stage may begin another block."""
        return self._room(op) > 0

    def max_task_output_bytes_to_read(self, op: Any) -> int | None:
        """Return the bytes that may be taken from a stage's tasks; None for all."""
        room, block_bytes = self._room(op), op.metrics.average_bytes_per_output
        return None if math.isinf(room) or (room > 0 and not block_bytes) else max(0, int(room * (block_bytes or 0)))

    def _room(self, op: Any) -> float:
        """Return the number of further blocks that the next stage takes; infinite for the last stage."""
        following: Any = next(iter(op.output_dependencies), None)
        pool = getattr(following, "_actor_pool", None)
        if pool is None:
            return math.inf
        on_their_way: int = self._topology[following].total_enqueued_input_blocks() + following.num_active_tasks()
        most: int = BLOCKS_PER_CALL * pool.max_actor_concurrency() * pool.max_size()
        return most - on_their_way


class RunningDataset:
    """A dataset that runs when its rows are read, with access to its actors from the start."""

    def __init__(self, dataset: ray.data.Dataset) -> None:
        """Take a dataset that has not run."""
        self._dataset = dataset
        self._executor: StreamingExecutor | None = None
        # a dataset gives access to its executor only after its first row, and a callback class would be sent with the context
        dataset._create_executor = partial(self._created, dataset._create_executor)  # type: ignore[method-assign]  # noqa: SLF001

    def _created(self, create: Callable[[], StreamingExecutor]) -> StreamingExecutor:
        self._executor = create()
        return self._executor

    def tables(self) -> Iterator[pa.Table]:
        """Run the dataset, and yield its rows as they come.

        Raises:
            RayError: An actor could not start, or Ray failed.
        """
        for batch in self._dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield cast("pa.Table", batch)

    def is_loading(self, stage: str) -> bool:
        """Tell whether every actor of a stage is still starting."""
        operators = [operator for operator in self._operators() if stage in operator.name]
        return not any(operator.get_actor_info().running for operator in operators)

    def actors(self) -> Iterator[tuple[str, dict[Any, bool]]]:
        """Yield each stage at work, with its started actors: True for one that has died and is restarting."""
        for operator in self._operators():
            pool = getattr(operator, "_actor_pool", None)
            if pool is not None and not operator.has_execution_finished():
                stage = operator.name.removeprefix("MapBatches(").removesuffix(")")
                running = list(pool._running_actors.items())  # noqa: SLF001
                yield stage, {actor: state.is_restarting for actor, state in running}

    def _operators(self) -> list[Any]:
        return list((self._executor and self._executor._topology) or ())  # noqa: SLF001 (no other way to see actors)

    def stop(self) -> None:
        """Stop the dataset; blocks at work are lost."""
        if self._executor is not None:  # Ray Data stops it only with the dataset
            self._executor.shutdown(force=True)

    def stats(self) -> str:
        """Return Ray Data's statistics of the finished run."""
        return str(self._dataset.stats())


def configure() -> None:
    """Configure Ray Data for every flow, on the driver, once Ray has started."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # no limit: the driver finds the rows of a lost block missing, and runs them again
    context.op_resource_reservation_enabled = False
    context.target_max_block_size = BLOCK_BYTES
    policies = [backpressure_policy.ConcurrencyCapBackpressurePolicy, BlocksOnTheirWay]  # the first limits the tasks that read
    context.set_config(backpressure_policy.ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, policies)
    context._max_num_blocks_in_streaming_gen_buffer = 1  # noqa: SLF001 (the only place where it is set)
    context.issue_detectors_config.detectors = []
    _quiet()
    warnings.filterwarnings("ignore", module=r"ray\.data")
    context.execution_options.preserve_order = False


def _quiet() -> None:
    """Keep Ray Data's log in its file and off the terminal, and send Ray's own errors through this program's logging.

    Ray prints errors of remote processes to stdout, even the expected end of an actor that was stopped.
    """
    ray._private.worker.print_to_stdstream = _note  # type: ignore[assignment]  # noqa: SLF001 (nothing else stops it)
    data_logger, ray_logger = logging.getLogger("ray.data"), logging.getLogger("ray")
    data_logger.handlers = [handler for handler in data_logger.handlers if not isinstance(handler, logging.StreamHandler)]
    data_logger.setLevel(logging.INFO)
    ray_logger.handlers.clear()
    ray_logger.propagate = True


def _note(reported: dict[str, Any], *_: object, **__: object) -> None:
    logging.getLogger("ray").info("; ".join(reported["lines"]))


def logs() -> str:
    """Return the folder of Ray's logs, the same on each machine of the cluster."""
    runtime = ray.get_runtime_context()
    return f"{runtime.get_temp_dir()}/{runtime.get_session_name()}/logs"


def with_stage(
    rows: ray.data.Dataset, stage: type, arguments: tuple[object, ...], options: dict[str, object], pool: Pool
) -> ray.data.Dataset:
    """Add one stage. The public map_batches refuses whole blocks on a GPU; its internal form takes them."""
    actors = ActorPoolStrategy(
        min_size=pool.minimum,
        max_size=pool.actors,
        initial_size=pool.actors if pool.gpus else pool.minimum,  # so that an autoscaler sees the demand for GPUs
        max_tasks_in_flight_per_actor=pool.tasks,
        max_concurrent_calls_per_actor=pool.calls,
        enable_true_multi_threading=pool.calls > 1,
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
        max_task_retries=1,  # Ray's default has no limit
    )


def with_tasks(rows: ray.data.Dataset, function: Callable[[pa.Table], Iterator[pa.Table]], cpus: int | None) -> ray.data.Dataset:
    """Add one function, one task per block, on at most `cpus` CPUs. The public map_batches warns of max_retries."""
    return rows.map_batches_internal(
        function,
        batch_size=None,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=cpus) if cpus else TaskPoolStrategy(),
        num_cpus=1,
        max_retries=1,  # the driver runs again what is lost twice
    )


def message(error: ray.exceptions.RayError) -> str:
    """Return the last line of a Ray error, or of its cause if it has one: the line that says what happened."""
    return errors.last_line(getattr(error, "cause", None) or error)


def can_grow() -> bool:
    """Tell whether the cluster's autoscaler may add nodes."""
    return bool(is_autoscaling_enabled())
