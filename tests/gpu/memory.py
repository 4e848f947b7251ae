"""Rows of part 2 about memory: a device that runs out of it, and clips of thousands of lengths.

Each row that runs out of memory has a process of its own. `errors` holds every error that the separator asked about, with the
answers of model/cuda_errors.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import psutil
import torch
from ledger import Row, Values, text_of
from material import Setup
from numerics import agreement, waves

from sep_batch.model import cuda_errors, separator
from sep_batch.model.parts import split_parts
from sep_batch.pipeline.stages.separate import CUFFT_PLANS

LIMITS_MB = (2000, 1000, 500, 250)  # beside what the networks take
PATCHES = 20
LENGTHS, LENGTHS_SMALL = 2_000, 40
MAY_GROW_MB = 256.0  # between the first tenth of the clips and the last one
AT_LEAST_DB = 80.0  # of a result in halved batches to the whole one, float32


def rows() -> list[Row]:
    """Return the rows, in order."""
    every = [Row("memory.lengths.waves", lengths)]
    every += [Row(f"oom.fraction.{mb}", partial(out_of_memory, mb=mb, fill=fraction), "cuda", alone=True) for mb in LIMITS_MB]
    every += [Row(f"oom.device.{mb}", partial(out_of_memory, mb=mb, fill=filled), "cuda", alone=True) for mb in LIMITS_MB]
    return every


@contextlib.contextmanager
def fraction(mb: int) -> Iterator[None]:
    """Let torch's allocator have so many megabytes more than it has now."""
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + mb * 1e6) / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextlib.contextmanager
def filled(mb: int) -> Iterator[None]:
    """Take the device's memory but for so many megabytes, so that libraries beside torch's allocator run out of it too."""
    torch.cuda.empty_cache()
    taken, left = [], torch.cuda.mem_get_info()[0] - mb * 10**6
    if left > 0:
        taken.append(torch.empty(left, dtype=torch.uint8, device="cuda"))
    try:
        yield
    finally:
        taken.clear()
        torch.cuda.empty_cache()


@contextlib.contextmanager
def recorded() -> Iterator[list[Values]]:
    """Record the errors that the separator asks about, and what model/cuda_errors.py says of them."""
    errors: list[Values] = []

    def asked(error: BaseException) -> bool:
        answer = cuda_errors.is_out_of_memory(error)
        new = {"text": text_of(error), "is_out_of_memory": answer, "is_fault": cuda_errors.is_fault(error)}
        if new not in errors:
            errors.append(new)
        return answer

    separator.cuda_errors = SimpleNamespace(is_out_of_memory=asked, is_fault=cuda_errors.is_fault)  # type: ignore[assignment]
    try:
        yield errors
    finally:
        separator.cuda_errors = cuda_errors


def out_of_memory(setup: Setup, mb: int, fill: object) -> Values:
    """Separate a part with little memory, then with all of it again; `ok`: the separator went on with the same result."""
    one, part = setup.separator(), setup.part(PATCHES, as_waves=True)
    (expected,) = waves(one, [part])
    values: Values = {"room_before": one.room}
    with recorded() as errors:
        try:
            with fill(mb):  # type: ignore[operator]
                (result,) = waves(one, [part])
            values |= agreement(expected, result)
        except RuntimeError as error:
            values |= {"raised": text_of(error), "raised_is_out_of_memory": cuda_errors.is_out_of_memory(error)}
    values |= {"room_after": one.room, "errors": errors}
    (again,) = waves(one, [part])
    values["again_db"] = agreement(expected, again)["db"]
    is_same = values.get("equal", False) or values.get("db", 0.0) >= AT_LEAST_DB
    gives_up = values.get("raised_is_out_of_memory", False) and one.room == 1
    return {**values, "went_on": is_same, "ok": is_same or gives_up}


def lengths(setup: Setup) -> Values:
    """Separate clips of as many lengths as there are clips, as waves; the memory after the first tenth and after all, in MB."""
    count = LENGTHS_SMALL if setup.small else LENGTHS
    if setup.on_gpu:
        torch.backends.cuda.cufft_plan_cache.max_size = CUFFT_PLANS  # as Separate sets it
    one, spec = setup.separator(), setup.spec
    step = (spec.patch_samples - spec.frame_length) // count
    early: Values = {}
    for number in range(count):
        samples = spec.frame_length + number * step
        (part,) = split_parts([torch.from_numpy(setup.music[:, :samples])], spec, 1, as_waves=True)
        for piece in one.separate_parts([part]):
            piece.waves.cpu()
        if number == count // 10:
            early = used(setup)
    late = used(setup)
    grown = {f"grown_{name}": late[name] - early[name] for name in late}
    return {"clips": count, **late, **grown, "ok": max(grown.values()) < MAY_GROW_MB}


def used(setup: Setup) -> dict[str, float]:
    """Return the memory of this process, and of the device, in MB."""
    values = {"rss_mb": psutil.Process().memory_info().rss / 1e6}
    if setup.on_gpu:
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        values |= {"reserved_mb": torch.cuda.memory_reserved() / 1e6, "device_mb": (total - free) / 1e6}
    return values
