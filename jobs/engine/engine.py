"""Ray: start it on this machine or join a cluster, and share its resources among the stages."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from sep_batch.jobs.setup import check_machine, machine, streams
from sep_batch.jobs.setup.address import Address, reach
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors
from sep_batch.pipeline.flow.resources import Resources, plan_resources
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements

logger = logging.getLogger(__name__)
_KILLED = (
    "error: this process was killed: by the kernel (out of memory), by Ray ({} was lost), or by a signal; "
    "run the same command again to resume"
)


def set_environment(options: Options) -> None:
    """Set the environment variables that Ray reads once, when it is first imported.

    They turn off usage statistics, progress bars and Ray's log. A Ray that is started here gets a token, because its ports
    listen beyond this machine.
    """
    if "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default is 15; ours is in flow/resources.py
    if not machine.cluster(options):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def look_ahead(options: Options, say: Callable[[str], None] = lambda _: None) -> None:
    """Check before any other work that Ray can start, or the cluster can be joined; warn about what would slow Ray down.

    Args:
        options: Options of the run.
        say: Function that shows the current step.

    Raises:
        NotRunnableError: Ray cannot start, or the cluster cannot be joined; names the fault and the next step.
        UsageError: The address cannot be that of a cluster's head.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    if address := machine.cluster(options):
        say(f"connecting to the cluster at {address}")
        set_environment(options)
        _located(address)
        return
    for check in (check_machine.shm(options), check_machine.sessions()):
        message = f"{check.name}: {check.found}; {check.advice}"
        if check.state == "wrong":
            raise errors.NotRunnableError(message)
        if check.state == "note":
            logger.warning("warning: %s", message)


def _located(address: Address) -> str:
    """Return the address of a cluster that can be joined, as Ray takes it."""
    if address.text != "auto":
        reach(address)  # before Ray is imported, which takes longer
    from sep_batch.jobs.engine import head

    with streams.native_dropped():
        return head.refuse_unjoinable(address).text


def try_ray(address: str | None = None) -> str:
    """Start Ray as a run does, or join a cluster, and shut it down; return a line about its resources.

    Args:
        address: Address of the cluster, as --address takes it; by default RAY_ADDRESS.

    Raises:
        NotRunnableError: Ray does not start, or there is no such cluster.
        UsageError: The address cannot be that of a cluster's head.
    """
    options, begun = Options(address=address), time.monotonic()
    set_environment(options)
    with running(options, MachineRequirements()) as resources:
        how = "joined" if machine.cluster(options) else "started"
        pools = ", ".join(f"{name.capitalize()} {getattr(resources, name).actors}" for name in ("analyze", "separate", "write"))
        return f"{how} in {time.monotonic() - begun:.0f} s; actors of a run: {pools}, U-Nets on {resources.device}"


@contextlib.contextmanager
def running(
    options: Options, requirements: MachineRequirements, say: Callable[[str], None] = lambda _: None
) -> Iterator[Resources]:
    """Start Ray on this machine, or join a cluster, and yield the resources of the stages; shut Ray down after the block.

    A Ray that already runs in this process is used as it is, and left running.

    Args:
        options: Options of the run.
        requirements: Requirements for the nodes of a cluster.
        say: Function that shows the progress of a wait for GPUs.

    Raises:
        NotRunnableError: Ray cannot be started or joined, has too few GPUs, or has nodes with other versions than the driver.
        UsageError: A local path is given for a cluster of several nodes.
    """
    address = machine.cluster(options)
    import ray

    if ray.is_initialized():
        yield _shared_out(options, requirements, address, say)
        return
    with streams.last_words(_KILLED.format(f"the cluster at {address}" if address else "a Ray process")):
        _start(options, address)
        try:
            yield _shared_out(options, requirements, address, say)
        finally:
            ray.shutdown()


def _shared_out(
    options: Options, requirements: MachineRequirements, address: Address | None, say: Callable[[str], None]
) -> Resources:
    from sep_batch.pipeline.flow import ray_data

    resources = _joined(options, requirements, say) if address else _own(options)
    ray_data.configure()
    return resources


def _start(options: Options, address: Address | None) -> None:
    import ray

    located = _located(address) if address else "local"  # without an address, Ray would join the last cluster of its file
    local: dict[str, Any] = {
        "num_cpus": options.cpus or machine.usable_cpus(),
        "num_gpus": machine.gpu_count(options) or (None if options.gpus == "auto" else 0),  # None: Ray counts those of others
        "object_store_memory": check_machine.object_store_bytes(options),
    }
    silent: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with streams.native_dropped():
            ray.init(address=located, **({} if address else local), **silent)
    except Exception as error:  # Ray raises a plain Exception if its node is not up in time
        where = f" at {address}" if address else ""
        raise errors.NotRunnableError(f"Ray{where}: {errors.first_line(error)}") from error


def _own(options: Options) -> Resources:
    import ray

    total = ray.cluster_resources()
    cpus, available = int(total.get("CPU", 0)), int(total.get("GPU", 0))
    gpus = available if options.gpus == "auto" else int(options.gpus)
    if options.gpus == "auto" and not available and (offered := machine.gpu_count(options)):
        raise errors.NotRunnableError(
            f"CUDA offers {offered} GPUs, but the Ray that runs already has none; start it with GPUs, or use --gpus 0 for the CPU"
        )
    if gpus > available:
        raise errors.NotRunnableError(f"--gpus {gpus}: Ray found {available} GPUs; lower --gpus, or use --gpus 0 for the CPU")
    if gpus and not options.device:
        machine.refuse_missing_gpus(gpus)
    memory_bytes = check_machine.memory_bytes()
    return plan_resources(max(1, min(cpus, options.cpus or cpus)), gpus, device=options.device, memory_bytes=memory_bytes)


def _joined(options: Options, requirements: MachineRequirements, say: Callable[[str], None]) -> Resources:
    from sep_batch.jobs.engine import cluster
    from sep_batch.pipeline.flow.ray_data import can_grow

    cluster.refuse_others_disk(cluster.nodes(), requirements)
    available = cluster.wait_for_gpus(options, say)
    nodes = cluster.nodes()
    cluster.refuse_others_disk(nodes, requirements)
    cluster.refuse_other_versions(nodes)
    cpus = sum(node.cpus for node in nodes)
    cpu_limit = options.cpus if options.cpus and can_grow() else min(cpus, options.cpus or cpus)
    gpus = available if options.gpus == "auto" else int(options.gpus)
    least_gpus, node_cpus = min(available, gpus), [node.cpus for node in nodes if node.cpus]
    memory_bytes = None if can_grow() else sum(node.memory_bytes for node in nodes) or None
    bounds: dict[str, Any] = {"min_gpus": least_gpus, "nodes": node_cpus, "memory_bytes": memory_bytes}
    return plan_resources(max(1, cpu_limit), gpus, device=options.device, **bounds)
