"""CUDA errors: the process whose call failed ends at once, for every later call of it may fail too, or give wrong results.

Before it ends it stores a mark with the GPU, the error and the ids of the tracks at work. The engine starts another process and
tries these tracks again; the driver reads the marks, and gives up a GPU that ends workers whatever their tracks are. Where the
stages share the driver's process, the run ends instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import NoReturn

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.stages.context import RunContext

EXIT = 70  # exit code of the process


@dataclass(frozen=True)
class Gpu:
    """One GPU of the machines of a run.

    Attributes:
        host: Its machine's host name.
        index: Its index or UUID in CUDA_VISIBLE_DEVICES, which Ray sets for each worker; empty if that is not set.
        name: Its name, as torch reports it; empty if torch does not see it.
    """

    host: str
    index: str
    name: str = field(default="", compare=False)  # not known before the worker has started

    def __str__(self) -> str:
        return f"GPU {self.index or 0} of {self.host}" + (f" ({self.name})" if self.name else "")


@dataclass(frozen=True)
class GpuFault:
    """A CUDA error that ended a worker.

    Attributes:
        gpu: The GPU.
        error: Its text, one line.
        ids: Ids of the tracks at work; none while the worker started.
        is_unusable: No worker can use this kind of GPU: torch has no kernels for it, or the driver is too old.
    """

    gpu: Gpu
    error: str
    ids: tuple[str, ...] = ()
    is_unusable: bool = False


def this_gpu(name: str = "") -> Gpu:
    """Return the GPU of this process.

    Args:
        name: Its name, as torch reports it.
    """
    return Gpu(socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES", ""), name)


def end(error: Exception, ids: Sequence[str], gpu: Gpu, work: RunContext) -> NoReturn:
    """End this process, or the run where the stages share the driver's process.

    Args:
        error: A CUDA error.
        ids: Ids of the tracks at work.
        gpu: The GPU, as `this_gpu` returned it.
        work: Context of the run.

    Raises:
        NotRunnableError: The stages share the driver's process.
    """
    from sep_batch.model import cuda_errors

    is_unusable = cuda_errors.is_unusable(error)
    fault = GpuFault(gpu, errors.one_line(errors.first_line(error)), tuple(ids), is_unusable)
    if work.has_ended is not None:
        remedy = "" if is_unusable else "; run the same command again to resume"
        raise errors.NotRunnableError(f"{gpu}: {fault.error}{remedy}") from error
    with contextlib.suppress(errors.TrackError):  # without the mark, its death counts as that of any other worker
        name = f"{secrets.token_hex(8)}.json"
        storage.put(f"{_folder(work)}/{name}", json.dumps(asdict(fault)).encode(), scratch=work.scratch)
    os._exit(EXIT)


def unusable(gpu: Gpu, error: object) -> str:
    """Return the message for a GPU that the installed torch and driver cannot use."""
    text = errors.one_line(errors.first_line(error)) if isinstance(error, BaseException) else error
    return f"{gpu}: {text}; install a torch and a driver that support it, or use --gpus 0"


def faults(work: RunContext, known: frozenset[str] = frozenset()) -> Iterator[tuple[str, GpuFault]]:
    """Yield the run's CUDA errors so far, each with the URI of its mark.

    Args:
        work: Context of the run.
        known: URIs of marks that are left out.
    """
    for info in storage.find(_folder(work)):
        if info.uri not in known and info.uri.endswith(".json"):
            says = json.loads(storage.read(info.uri))
            yield info.uri, GpuFault(Gpu(**says["gpu"]), says["error"], tuple(says["ids"]), says["is_unusable"])


def _folder(work: RunContext) -> str:
    return f"{work.parts}/gpu-faults"
