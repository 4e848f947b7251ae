"""Ray, started on this machine or joined where it runs, and what it gives shared out among the stages."""

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
_LAST_WORDS = (
    "error: this process was ended from outside: killed, as the kernel does where memory is short, or by Ray, where {} is lost; "
    "run the same command again to resume"
)


def set_environment(options: Options) -> None:
    """Set what Ray reads once, when it is first imported.

    No usage statistics, no noise, and for a Ray of our own a token, since its ports listen beyond this machine.
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
    """Refuse what would keep Ray from starting or a cluster from being joined, before any other work; warn of what slows it.

    Args:
        options: Options of the run.
        say: Told what is waited for.

    Raises:
        NotRunnableError: Names what is wrong and what to do.
        UsageError: The address cannot be that of a cluster's head.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    if address := machine.cluster(options):
        say(f"asking the cluster at {address}")
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
    """Start Ray as a run does, or join a cluster, end it again, and say what it had.

    Args:
        address: The cluster's, as --address takes it. Default: RAY_ADDRESS.

    Raises:
        NotRunnableError: It does not start, or there is no such cluster.
        UsageError: The address cannot be that of a cluster's head.
    """
    options, begun = Options(address=address), time.monotonic()
    set_environment(options)
    with running(options, MachineRequirements()) as resources:
        how = "joined" if machine.cluster(options) else "started"
        pools = ", ".join(f"{name.capitalize()} {getattr(resources, name).actors}" for name in ("analyze", "separate", "write"))
        return f"{how} in {time.monotonic() - begun:.0f} s; actors of a run: {pools}, U-Nets on {resources.device}"


@contextlib.contextmanager
def running(options: Options, like: MachineRequirements, say: Callable[[str], None] = lambda _: None) -> Iterator[Resources]:
    """Start Ray on this machine, or join a cluster, and share its resources out; ended where it was started here.

    Args:
        options: Options of the run.
        like: Requirements of the machines of a cluster.
        say: Told what a cluster is waited for.

    Raises:
        NotRunnableError: It cannot be had, has fewer GPUs than asked for, or nodes that are not as the driver's.
        UsageError: A path of this machine, for a cluster of several.
    """
    address = machine.cluster(options)
    import ray

    if ray.is_initialized():
        yield _shared_out(options, like, address, say)
        return
    with streams.last_words(_LAST_WORDS.format(f"the cluster at {address}" if address else "a process of Ray's")):
        _start(options, address)
        try:
            yield _shared_out(options, like, address, say)
        finally:
            ray.shutdown()


def _shared_out(options: Options, like: MachineRequirements, address: Address | None, say: Callable[[str], None]) -> Resources:
    from sep_batch.pipeline.flow import ray_data

    resources = _joined(options, like, say) if address else _own(options)
    ray_data.configure(on_gpu=bool(resources.separate.gpus))
    return resources


def _start(options: Options, address: Address | None) -> None:
    import ray

    located = _located(address) if address else "local"  # without an address, Ray would join the last cluster of its file
    local: dict[str, Any] = {
        "num_cpus": options.cpus or len(os.sched_getaffinity(0)),
        "object_store_memory": machine.object_store_bytes(options),
    }
    silent: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with streams.native_dropped():
            ray.init(address=located, **({} if address else local), **silent)
    except Exception as error:  # Ray raises a plain Exception where its node is not up in time
        message = str(error).partition("\n")[0] or type(error).__name__
        raise errors.NotRunnableError(f"Ray{f' at {address}' if address else ''}: {message}") from error


def _own(options: Options) -> Resources:
    import ray

    there = ray.cluster_resources()
    cpus, on_hand = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    gpus = on_hand if options.gpus == "auto" else int(options.gpus)
    if gpus > on_hand:
        raise errors.NotRunnableError(f"--gpus {gpus}: Ray found {on_hand}")
    if gpus and not options.device:
        machine.refuse_missing_gpus(gpus)
    return plan_resources(max(1, min(cpus, options.cpus or cpus)), gpus, device=options.device)


def _joined(options: Options, like: MachineRequirements, say: Callable[[str], None]) -> Resources:
    from sep_batch.jobs.engine import cluster
    from sep_batch.pipeline.flow.ray_data import can_grow

    cluster.refuse_others_disk(cluster.nodes(), like)
    there = cluster.wait_for_gpus(options, say)
    nodes = cluster.nodes()
    cluster.refuse_others_disk(nodes, like)
    cluster.refuse_other_versions(nodes)
    cpus = sum(node.cpus for node in nodes)
    bound = options.cpus if options.cpus and can_grow() else min(cpus, options.cpus or cpus)
    gpus = there if options.gpus == "auto" else int(options.gpus)
    on = [node.cpus for node in nodes if node.cpus]
    return plan_resources(max(1, bound), gpus, device=options.device, min_gpus=min(there, gpus), nodes=on)
