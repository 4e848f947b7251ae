"""Requirements of a run on this machine: GPUs that torch can use, and a precision that the device has."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from sep_batch.jobs.setup.address import Address, address_of
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors
from sep_batch.pipeline.stages import machine_requirements
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements

DRIVER = Path("/proc/driver/nvidia")


def cluster(options: Options) -> Address | None:
    """Return the address of the cluster to join; None if Ray starts on this machine.

    Raises:
        UsageError: The text cannot be the address of a head.
    """
    return address_of(options.address)


def requirements(options: Options, disk: str | None) -> MachineRequirements:
    """Return the requirements of a cluster's machines; none without a cluster, where this machine is the only one.

    Args:
        options: Options of the run.
        disk: A local path that the run works on, if any.
    """
    if not cluster(options):
        return MachineRequirements()
    return MachineRequirements(machine_requirements.versions(), None if options.shared_filesystem else disk)


def refuse_unfit(options: Options) -> None:
    """Refuse options that this machine cannot satisfy; a cluster is checked once it is joined.

    Raises:
        NotRunnableError: This machine has fewer GPUs than --gpus, or lacks a package that every run needs.
        UsageError: The CPU does not have the precision; --min-gpus is given without a cluster; or --engine local with a
            cluster or several GPUs.
    """
    machine_requirements.versions()  # raises for a missing package
    address = cluster(options)
    if options.engine == "local":
        _refuse_not_local(options, address)
    if address:
        return
    if options.min_gpus is not None:
        raise errors.UsageError(f"--min-gpus {options.min_gpus}: expected a cluster, given by --address or RAY_ADDRESS")
    gpus = None if options.gpus == "auto" else int(options.gpus)
    if gpus and not options.device:
        refuse_missing_gpus(gpus)
    _refuse_precision(options)


def _refuse_not_local(options: Options, address: Address | None) -> None:
    if address:
        raise errors.UsageError(f"--engine local: expected no cluster, but there is one at {address}; use --engine ray")
    if options.gpus != "auto" and int(options.gpus) > 1:
        raise errors.UsageError(f"--engine local uses at most one GPU, but --gpus is {options.gpus}; use --engine ray")


def refuse_missing_gpus(gpus: int) -> None:
    """Refuse more GPUs than torch can use on this machine.

    Raises:
        NotRunnableError: There are fewer; names how many torch can use.
    """
    import torch

    count = max(torch.cuda.device_count(), len(_slices())) if torch.cuda.is_available() else 0
    if gpus > count:
        raise errors.NotRunnableError(
            f"--gpus {gpus}: found {count} GPUs that torch {torch.__version__} can use (CUDA {torch.version.cuda}); "
            "lower --gpus, or use --gpus 0 for the CPU"
        )


def gpu_count(options: Options) -> int:
    """Return the number of GPUs of a run on this machine, without torch.

    auto counts those that CUDA's driver offers; without a driver, those whose devices are there, which a container may lack, and
    that CUDA_VISIBLE_DEVICES leaves. Of slices of GPUs (MIG), it counts those that CUDA_VISIBLE_DEVICES names.
    """
    if options.gpus != "auto":
        return int(options.gpus)
    if slices := _slices():
        return len(slices)
    if (offered := _offered()) is not None:
        return offered
    listed = len(list(Path("/dev").glob("nvidia[0-9]*")))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return listed
    return min(listed, sum(name.strip() not in ("", "-1", "NoDevFiles") for name in visible.split(",")))


def _slices() -> list[str]:
    """Return the slices of GPUs that CUDA_VISIBLE_DEVICES names; CUDA offers a process the first one only, Ray gives each."""
    return [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip().startswith("MIG-")]


def _offered() -> int | None:
    """Return the number of GPUs that CUDA's driver offers to this process; None without a driver."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        is_there = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    except (OSError, AttributeError):
        return None
    return count.value if is_there else None


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use; outside of Linux, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_models() -> list[str]:
    """Return the model of each GPU that NVIDIA's driver lists, without torch."""
    texts = [path.read_text() for path in sorted(DRIVER.glob("gpus/*/information"))]
    return [match[1] for text in texts if (match := re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE))]


def _refuse_precision(options: Options) -> None:
    if options.precision == Options.precision or options.device:
        return
    import torch

    from sep_batch.model.separator import CPU_PRECISIONS

    on_cpu = str(options.gpus) == "0" or (options.gpus == "auto" and not torch.cuda.is_available())
    if on_cpu and options.precision not in CPU_PRECISIONS:
        expected = ", ".join(CPU_PRECISIONS)
        raise errors.UsageError(f"--precision {options.precision}: the U-Nets run on the CPU here, expected one of {expected}")
