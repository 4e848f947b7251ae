"""The private names of Ray and Ray Data that are used: a new version that lacks one is told here, with where to look."""

from __future__ import annotations

import inspect
import re
from functools import partial
from types import SimpleNamespace

import pytest
import ray
import ray.data
from project_files import ROOT
from ray.data import ActorPoolStrategy, Dataset
from ray.data._internal.execution import backpressure_policy
from ray.data._internal.execution.interfaces.op_runtime_metrics import OpRuntimeMetrics
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator, _ActorPool, _ActorState
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from ray.data._internal.execution.streaming_executor_state import OpState

from sep_batch.pipeline.flow.ray_data import BlocksOnTheirWay, RunningDataset

FILE = (ROOT / "pipeline" / "flow" / "ray_data.py").read_text().split('"""', 2)[2]  # without its docstring
LOOK = "pipeline/flow/ray_data.py uses it; find the way of this version of Ray, and the reason in that file"


def arguments(function):
    return inspect.signature(function).parameters


def has_setting(name):
    return hasattr(ray.data.DataContext(), name)


USES = {
    "_create_executor": lambda: callable(Dataset._create_executor),
    "_topology": lambda: "_topology" in inspect.getsource(StreamingExecutor),
    "_actor_pool": lambda: "_actor_pool" in inspect.getsource(ActorPoolMapOperator),
    "_running_actors": lambda: "_running_actors" in inspect.getsource(_ActorPool),
    "is_restarting": lambda: "is_restarting" in _ActorState.__dataclass_fields__,
    "has_execution_finished": lambda: callable(ActorPoolMapOperator.has_execution_finished),
    "get_actor_info": lambda: callable(ActorPoolMapOperator.get_actor_info),
    "shutdown(force": lambda: "force" in arguments(StreamingExecutor.shutdown),
    "map_batches_internal": lambda: {"fn_constructor_args", "compute"} <= set(arguments(Dataset.map_batches_internal)),
    "max_restarts": lambda: "ray_remote_args" in arguments(Dataset.map_batches_internal),
    "_max_num_blocks_in_streaming_gen_buffer": partial(has_setting, "_max_num_blocks_in_streaming_gen_buffer"),
    "backpressure_policy": lambda: callable(backpressure_policy.ConcurrencyCapBackpressurePolicy),
    "ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY": lambda: backpressure_policy.ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    "can_add_input": lambda: arguments(backpressure_policy.BackpressurePolicy.can_add_input).keys() == {"self", "op"},
    "max_task_output_bytes_to_read": lambda: callable(backpressure_policy.BackpressurePolicy.max_task_output_bytes_to_read),
    "total_enqueued_input_blocks": lambda: callable(OpState.total_enqueued_input_blocks),
    "num_active_tasks": lambda: callable(ActorPoolMapOperator.num_active_tasks),
    "average_bytes_per_output": lambda: hasattr(OpRuntimeMetrics, "average_bytes_per_output"),
    "max_actor_concurrency": lambda: callable(_ActorPool.max_actor_concurrency),
    "max_size": lambda: callable(_ActorPool.max_size),
    "enable_true_multi_threading": lambda: "enable_true_multi_threading" in arguments(ActorPoolStrategy),
    "op_resource_reservation_enabled": partial(has_setting, "op_resource_reservation_enabled"),
    "print_to_stdstream": lambda: callable(ray._private.worker.print_to_stdstream),
}
OURS = {"_room", "_dataset", "_executor", "_created", "_operators", "_private", "_internal", "_quiet", "_note"}


@pytest.mark.parametrize("name", USES)
def test_ray_has_each_private_name_that_is_used(name):
    assert name in FILE, f"{name}: used no more, take it out of this test"
    assert USES[name](), f"{name}: {LOOK}"


def test_each_private_name_in_the_file_is_tested():
    used = set(re.findall(r"[.\"](_[a-z][a-z_]+)", FILE)) - OURS
    assert used == {name for name in USES if name.startswith("_")}


class Executor:
    """Plays an executor whose Separate has these actors, each gone or not."""

    def __init__(self, *, is_over=False, **gone):
        running = {actor: SimpleNamespace(is_restarting=is_gone) for actor, is_gone in gone.items()}
        separate = SimpleNamespace(
            name="MapBatches(Separate)",
            _actor_pool=SimpleNamespace(_running_actors=running),
            has_execution_finished=lambda: is_over,
            get_actor_info=lambda: SimpleNamespace(running=len(running)),
        )
        self._topology = [SimpleNamespace(name="Input"), separate]
        self.was_ended = False

    def shutdown(self, *, force):
        self.was_ended = force


def begun(executor):
    dataset = SimpleNamespace(_create_executor=lambda: executor)
    running = RunningDataset(dataset)
    dataset._create_executor()
    return running


def test_the_actors_of_a_running_dataset_are_seen_gone_or_not():
    assert list(begun(Executor(a=False, b=True)).actors()) == [("Separate", {"a": False, "b": True})]
    assert not begun(Executor(a=False)).is_loading("Separate")
    assert begun(Executor()).is_loading("Separate")


def test_a_stage_that_is_over_and_a_dataset_that_has_not_begun_have_no_actors():
    assert list(begun(Executor(is_over=True, a=True)).actors()) == []
    assert list(RunningDataset(SimpleNamespace(_create_executor=None)).actors()) == []


def test_a_dataset_is_ended_by_force_once_it_has_begun():
    executor = Executor()
    begun(executor).stop()
    assert executor.was_ended
    RunningDataset(SimpleNamespace(_create_executor=None)).stop()


class Operator(SimpleNamespace):
    __hash__ = object.__hash__


def policy_of(*, queued=0, at_work=0, calls=1, actors=2, block_bytes=100.0):
    """Return the policy, with Analyze before a Separate that has blocks in its queue and at its actors, and with Separate."""
    pool = SimpleNamespace(max_actor_concurrency=lambda: calls, max_size=lambda: actors)
    separate = Operator(output_dependencies=[], num_active_tasks=lambda: at_work, _actor_pool=pool)
    metrics = SimpleNamespace(average_bytes_per_output=block_bytes)
    analyze = SimpleNamespace(output_dependencies=[separate], metrics=metrics)
    topology = {separate: SimpleNamespace(total_enqueued_input_blocks=lambda: queued)}
    return BlocksOnTheirWay(None, topology, None), analyze, separate


@pytest.mark.parametrize(
    ("queued", "at_work", "calls", "room"), [(0, 0, 1, 4), (1, 2, 1, 1), (2, 2, 1, 0), (9, 2, 1, -7), (2, 4, 2, 2)]
)
def test_a_stage_is_held_back_while_the_next_has_two_blocks_for_each_call(queued, at_work, calls, room):
    policy, analyze, _ = policy_of(queued=queued, at_work=at_work, calls=calls)
    assert policy.can_add_input(analyze) == (room > 0)
    assert policy.max_task_output_bytes_to_read(analyze) == max(0, 100 * room)


def test_before_its_first_block_a_stage_may_hand_on_any_and_the_last_stage_always():
    policy, analyze, separate = policy_of(block_bytes=None)
    assert policy.max_task_output_bytes_to_read(analyze) is None
    separate.metrics = analyze.metrics
    assert policy.can_add_input(separate)
    assert policy.max_task_output_bytes_to_read(separate) is None
    full, analyze, _ = policy_of(queued=4, block_bytes=None)
    assert full.max_task_output_bytes_to_read(analyze) == 0
