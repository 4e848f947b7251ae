"""A Ray cluster that a run joins: its machines, the GPUs it waits for, and what it must not be asked to do.

Machines may differ: those with GPUs run the U-Nets, all of them decode and encode, and none needs a disk that the others see.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors
from sep_batch.pipeline.flow.ray_data import can_grow
from sep_batch.pipeline.stages import machine_requirements
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements

JOINING_S = 120.0  # in which machines that were started with the run have joined
GROWING_S = 1800.0  # in which an autoscaler has brought GPUs
ANSWER_S = 120.0
_LOOK_S = 1.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    name: str
    cpus: int
    gpus: int


def nodes() -> list[Node]:
    """Return the machines that are alive."""
    return [
        Node(
            node["NodeID"],
            node["NodeName"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def wait_for_gpus(options: Options, say: Say, *, wait_s: float | None = None) -> int:
    """Wait for --gpus to be there, or for --min-gpus, and return how many are.

    Args:
        options: Options of the run.
        say: Told how many there are, while they are waited for.
        wait_s: For how long; by default as an autoscaler, or machines that have just been started, need.

    Raises:
        NotRunnableError: There are too few.
    """
    if options.gpus == "auto":
        return _gpus()
    aim = int(options.gpus)
    enough = min(aim, options.min_gpus or aim)
    limit_s = wait_s if wait_s is not None else GROWING_S if can_grow() else JOINING_S
    over = time.monotonic() + limit_s
    with _demand(aim):
        while (there := _gpus()) < enough:
            if time.monotonic() > over:
                least = f"--min-gpus {enough}" if enough < aim else f"--gpus {aim}"
                raise errors.NotRunnableError(f"{least}: the cluster has {there} after {limit_s:.0f} s{_told(nodes())}")
            say(f"waiting for GPUs: {there} of {enough} are here" + (f"; --min-gpus {there} would start now" if there else ""))
            time.sleep(_LOOK_S)
    return there


def _gpus() -> int:
    return sum(node.gpus for node in nodes())


@contextmanager
def _demand(gpus: int) -> Iterator[None]:
    """Have an autoscaler see that so many GPUs are wanted; what is asked of it otherwise outlives a driver that is killed."""
    asked = [placement_group([{"GPU": 1}]) for _ in range(gpus)] if can_grow() else []
    try:
        yield
    finally:
        for one in asked:
            remove_placement_group(one)


def _told(there: Sequence[Node]) -> str:
    return "; its nodes: " + ", ".join(f"{node.name} {node.cpus} CPUs {node.gpus} GPUs" for node in there)


def refuse_other_versions(there: Iterable[Node]) -> None:
    """Refuse a cluster whose machines do not have the driver's packages.

    Raises:
        NotRunnableError: Names each machine, what it has, and what the driver has.
    """
    ours, packages = machine_requirements.versions(), machine_requirements.PACKAGES

    def versions() -> Mapping[str, str]:  # goes to the node as it is: sep-batch itself may not be there
        import contextlib
        import platform
        from importlib import metadata

        answers = {"python": platform.python_version()}
        for package in packages:
            with contextlib.suppress(metadata.PackageNotFoundError):
                answers[package] = metadata.version(package)
        return answers

    asked = {
        node: ray.remote(versions)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))
        .remote()
        for node in there
    }
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    answers = {node: _answer(answer, ours) for node, answer in asked.items()}
    if wrong := [f"{node.name} {what}" for node, what in answers.items() if what]:
        raise errors.NotRunnableError(f"the cluster's nodes are not as the driver's: {'; '.join(wrong)}")


def _answer(answer: ray.ObjectRef[Mapping[str, str]], ours: dict[str, str]) -> str:
    """Say what is wrong with a machine; nothing, where it is as the driver's."""
    try:
        differing = machine_requirements.differing(ray.get(answer, timeout=0), ours)
    except ray.exceptions.GetTimeoutError:
        return f"did not answer in {ANSWER_S:.0f} s"
    except ray.exceptions.RayError as error:
        return f"could not answer: {str(error).strip().splitlines()[-1]}"
    return f"has {', '.join(differing)}" if differing else ""


def refuse_others_disk(there: Sequence[Node], machine: MachineRequirements) -> None:
    """Refuse a path of one machine where others work on it too.

    Raises:
        UsageError: Names it.
    """
    if machine.disk is not None and (len(there) > 1 or can_grow()):
        of = f"{len(there)} nodes{' and may grow' if can_grow() else ''}"
        raise errors.UsageError(
            f"{machine.disk} is a path of this machine, and the cluster has {of}: "
            "expected object storage, or --shared-filesystem where every node sees that path"
        )
