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
from ray.data import Dataset
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator, _ActorPool, _ActorState
from ray.data._internal.execution.streaming_executor import StreamingExecutor

from sep_batch.pipeline.flow.ray_data import RunningDataset

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
    "downstream_capacity_backpressure_ratio": partial(has_setting, "downstream_capacity_backpressure_ratio"),
    "op_resource_reservation_enabled": partial(has_setting, "op_resource_reservation_enabled"),
    "print_to_stdstream": lambda: callable(ray._private.worker.print_to_stdstream),
}
OURS = {"_dataset", "_executor", "_created", "_operators", "_private", "_internal", "_quiet", "_note"}


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
