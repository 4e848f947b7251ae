"""Requirements of a run on this machine: GPUs that torch can use, and a precision that the device has."""

from __future__ import annotations

from pathlib import Path

from sep_batch.jobs.setup.address import Address, address_of
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors

OBJECT_STORE_BYTES = 800 << 20  # for each Separate actor: what it works on, what is ready for it, what it gave


def cluster(options: Options) -> Address | None:
    """Return the address of the cluster to join; None for a Ray of our own.

    Raises:
        UsageError: It cannot be the address of a head.
    """
    return address_of(options.address)


def refuse_unfit(options: Options) -> None:
    """Refuse what this machine cannot do; a cluster is looked at once it is joined.

    Raises:
        NotRunnableError: Fewer GPUs than asked for.
        UsageError: A precision that the CPU does not have; a wait for GPUs that will not come.
    """
    if cluster(options):
        return
    if options.min_gpus is not None:
        raise errors.UsageError(f"--min-gpus {options.min_gpus}: expected a cluster to wait for, by --address or RAY_ADDRESS")
    asked = None if options.gpus == "auto" else int(options.gpus)
    if asked and not options.device:
        refuse_missing_gpus(asked)
    _refuse_precision(options)


def refuse_missing_gpus(asked: int) -> None:
    """Refuse more GPUs than torch can use on this machine.

    Raises:
        NotRunnableError: Names what was found.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked > count:
        raise errors.NotRunnableError(
            f"--gpus {asked}: found {count} that torch {torch.__version__} can use (CUDA {torch.version.cuda}); "
            "ask for fewer, or --gpus 0 for the CPU"
        )


def gpus_wanted(options: Options) -> int:
    """Return how many GPUs a run on this machine will take, without asking torch: auto is what the driver lists."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) if options.gpus == "auto" else int(options.gpus)


def object_store_bytes(options: Options) -> int:
    """Return the size of the object store of a Ray of our own."""
    return OBJECT_STORE_BYTES * max(1, gpus_wanted(options))


def _refuse_precision(options: Options) -> None:
    if options.precision == Options.precision or options.device:
        return
    import torch

    from sep_batch.model.separator import CPU_PRECISIONS

    on_cpu = str(options.gpus) == "0" or (options.gpus == "auto" and not torch.cuda.is_available())
    if on_cpu and options.precision not in CPU_PRECISIONS:
        expected = ", ".join(CPU_PRECISIONS)
        raise errors.UsageError(f"--precision {options.precision}: the U-Nets run on the CPU here, expected one of {expected}")
