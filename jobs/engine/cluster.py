"""A Ray cluster that a run joins: its nodes, the wait for its GPUs, and checks that refuse an unfit cluster.

Nodes may differ: those with GPUs run the U-Nets, those with CPUs decode and encode. No node needs a disk that the others see.
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

JOINING_S = 120.0  # time limit for nodes that were started with the run to join
GROWING_S = 1800.0  # time limit for an autoscaler to add GPUs
ANSWER_S = 120.0  # time limit for all nodes to report their versions
_POLL_S = 1.0
Say = Callable[[str], None]


@dataclass(frozen=True)
class Node:
    """A node of the cluster."""

    id: str
    name: str
    cpus: int
    gpus: int
    memory_bytes: int = 0  # that Ray offers; 0 is unknown


def nodes() -> list[Node]:
    """Return the nodes that are alive."""
    return [
        Node(
            node["NodeID"],
            node["NodeName"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
            int(node["Resources"].get("memory", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def wait_for_gpus(options: Options, say: Say, *, wait_s: float | None = None) -> int:
    """Wait until the cluster has --gpus, or at least --min-gpus, and return how many it has.

    Args:
        options: Options of the run.
        say: Function that shows the progress of the wait.
        wait_s: Time limit in seconds; by default `GROWING_S` with an autoscaler, else `JOINING_S`.

    Raises:
        NotRunnableError: The cluster still has too few at the time limit.
    """
    if options.gpus == "auto":
        return _gpus()
    aim = int(options.gpus)
    enough = min(aim, options.min_gpus or aim)
    limit_s = wait_s if wait_s is not None else GROWING_S if can_grow() else JOINING_S
    over = time.monotonic() + limit_s
    with _demand(aim):
        while (available := _gpus()) < enough:
            if time.monotonic() > over:
                flag = "--min-gpus" if enough < aim else "--gpus"
                raise errors.NotRunnableError(
                    f"{flag} {enough}: the cluster has {available} GPUs after {limit_s:.0f} s; lower {flag}, or add nodes; "
                    f"its nodes: {_listed(nodes())}"
                )
            hint = f"; --min-gpus {available} would start now" if available else ""
            say(f"waiting for GPUs: {available} of {enough} available{hint}")
            time.sleep(_POLL_S)
    return available


def _gpus() -> int:
    return sum(node.gpus for node in nodes())


@contextmanager
def _demand(gpus: int) -> Iterator[None]:
    """Request GPUs from an autoscaler until the block ends.

    Placement groups end with a driver that is killed; any other request would outlive it.
    """
    requests = [placement_group([{"GPU": 1}]) for _ in range(gpus)] if can_grow() else []
    try:
        yield
    finally:
        for request in requests:
            remove_placement_group(request)


def _listed(nodes: Sequence[Node]) -> str:
    return ", ".join(f"{node.name} {node.cpus} CPUs {node.gpus} GPUs" for node in nodes)


def refuse_other_versions(nodes: Iterable[Node]) -> None:
    """Refuse a cluster with nodes whose versions differ from the driver's.

    Raises:
        NotRunnableError: A node differs or does not answer; names each such node, its versions and the driver's.
    """
    expected, packages = machine_requirements.versions(), machine_requirements.PACKAGES

    def versions() -> Mapping[str, str]:  # sent to the node by value: sep-batch may not be installed there
        import contextlib
        import platform
        from importlib import metadata

        answers = {"python": platform.python_version()}
        for package in packages:
            with contextlib.suppress(metadata.PackageNotFoundError):
                answers[package] = metadata.version(package)
        return answers

    answers = {
        node: ray.remote(versions)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False))
        .remote()
        for node in nodes
    }
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_S)
    faults = {node: _fault(answer, expected) for node, answer in answers.items()}
    if named := [f"{node.name} {fault}" for node, fault in faults.items() if fault]:
        raise errors.NotRunnableError(
            f"the cluster's nodes do not match the driver: {'; '.join(named)}; install the driver's versions on every node"
        )


def _fault(answer: ray.ObjectRef[Mapping[str, str]], expected: dict[str, str]) -> str:
    """Return the fault of a node; an empty string if its versions are the driver's."""
    try:
        differing = machine_requirements.differing(ray.get(answer, timeout=0), expected)
    except ray.exceptions.GetTimeoutError:
        return f"did not answer in {ANSWER_S:.0f} s"
    except ray.exceptions.RayError as error:
        return f"could not answer: {errors.last_line(error)}"
    return f"has {', '.join(differing)}" if differing else ""


def refuse_others_disk(nodes: Sequence[Node], machine: MachineRequirements) -> None:
    """Refuse a local path on a cluster that has, or may get, several nodes.

    Raises:
        UsageError: There is one; names the path.
    """
    if machine.disk is not None and (len(nodes) > 1 or can_grow()):
        size = f"{len(nodes)} nodes{' and may grow' if can_grow() else ''}"
        raise errors.UsageError(
            f"{machine.disk} is a local path, and the cluster has {size}: "
            "use object storage, or add --shared-filesystem if every node sees that path"
        )
