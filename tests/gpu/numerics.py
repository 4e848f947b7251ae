"""Rows of part 1 about results: machine facts, golden sets, CPU against GPU, and whether bits depend on the batch.

Agreement is the energy of the expected wave by that of the difference, in dB, of the worst stem. `equal` is true where no bit
differs.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from ledger import Row, Values
from material import SIGNALS, Setup, golden
from torch import Tensor

from sep_batch.model.separator import AGREEMENT_DB, PRECISIONS, Separator

GOLDEN_DB = {"float32": 80.0, "tf32": 40.0, "bfloat16": 15.0, "float16": 40.0}  # to TensorFlow Spleeter, at least
MUSIC_DB = {"float32": 80.0} | {name: AGREEMENT_DB[name] for name in ("tf32", "bfloat16", "float16")}  # to the CPU, at least
LOUD, QUIET = 1.0, 1e-4  # factors of the neighbours in a batch
QUERY = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu"
GOLDEN_SETS = ("2stems", "4stems", "5stems", "2stems-16kHz-average")


def rows() -> list[Row]:
    """Return the rows, in order."""
    every = [Row("machine", machine)]
    every += [
        Row(f"golden.{name}.{precision}", partial(golden_set, name=name, precision=precision), _needs(precision))
        for name in GOLDEN_SETS
        for precision in PRECISIONS
        if name == "2stems" or precision == "float32"
    ]
    every += [
        Row(f"numerics.{precision}.{signal}", partial(against_cpu, precision=precision, signal=signal), _needs(precision))
        for precision in PRECISIONS
        for signal in SIGNALS
    ]
    every += [
        Row(f"wiener.{precision}", partial(against_cpu, precision=precision, signal="music", mwf=True), _needs(precision))
        for precision in PRECISIONS
    ]
    every += [
        Row(f"bits.{name}.{precision}", partial(bits, measure=measure, precision=precision), _needs(precision))
        for name, measure in ASPECTS.items()
        for precision in PRECISIONS
    ]
    return every


def _needs(precision: str) -> str:
    return "cuda" if precision in ("tf32", "float16") else ""


def machine(setup: Setup) -> Values:
    """Return the machine's facts: clocks in MHz, memory in GB."""
    facts: Values = {
        "small": setup.small,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cores": setup.cores,
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "load": os.getloadavg()[0],
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    with contextlib.suppress(OSError):
        facts["dev_shm_gb"] = shutil.disk_usage("/dev/shm").total / 1e9
    if setup.on_gpu:
        free, total = torch.cuda.mem_get_info()
        major, minor = torch.cuda.get_device_capability()
        facts |= {"gpu": torch.cuda.get_device_name(), "gpu_gb": total / 1e9, "gpu_free_gb": free / 1e9}
        facts |= {"cudnn": torch.backends.cudnn.version(), "capability": f"{major}.{minor}"}
        facts |= nvidia_smi()
    return facts


def nvidia_smi() -> Values:
    """Return what `nvidia-smi` reads of the first GPU, or why it reads nothing."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return {"nvidia_smi": str(error)}
    return dict(zip(QUERY.split(","), (value.strip() for value in lines[0].split(",")), strict=False))


def agreement(expected: Tensor, result: Tensor) -> Values:
    """Return `db` of the worst first index, and `equal`; `db` is None where no bit differs, -inf where values are no numbers."""
    if torch.equal(expected, result):
        return {"db": None, "equal": True}
    if not bool(result.isfinite().all()):
        return {"db": -math.inf, "equal": False}
    true, ours = expected.double().flatten(1), result.double().flatten(1)
    noise = (true - ours).square().sum(dim=1)
    ratios = (true.square().sum(dim=1) / noise).log10() * 10
    return {"db": float(ratios[noise > 0].min()), "equal": False}


def at_least(values: Mapping[str, Any], least_db: float) -> Values:
    """Add `ok`: the bits are equal, or they agree to so many dB."""
    return {**values, "ok": bool(values["equal"] or values["db"] >= least_db), "least_db": least_db}


def golden_set(setup: Setup, name: str, precision: str) -> Values:
    """Compare with what TensorFlow Spleeter made of one song with a small network."""
    models = golden()
    separator = Separator(models.spec(name), models.tensors(name), device=setup.device, precision=precision)
    stems = separator.separate(models.song())
    with np.load(models.FOLDER / name / "expected.npz") as expected:
        windows = expected["windows"]
        true = torch.stack([torch.from_numpy(expected[stem]) for stem in stems])
    ours = torch.stack([torch.stack([wave[:, begin:end].T for begin, end in windows]) for wave in stems.values()])
    return at_least(agreement(true, ours), GOLDEN_DB[precision])


_EXPECTED: dict[tuple[str, bool], Tensor] = {}  # stems of the CPU by signal, with and without the Wiener filter


def against_cpu(setup: Setup, precision: str, signal: str, *, mwf: bool = False) -> Values:
    """Compare with the stems of the CPU in float32; music must agree, hard signals are only noted."""
    wave = SIGNALS[signal](setup.music)
    if (signal, mwf) not in _EXPECTED:
        _EXPECTED[signal, mwf] = torch.stack(list(setup.on_cpu.separate(wave, mwf=mwf).values()))
    result = torch.stack(list(setup.separator(precision).separate(wave, mwf=mwf).values()))
    values = {**agreement(_EXPECTED[signal, mwf], result), "finite": bool(result.isfinite().all())}
    return at_least(values, MUSIC_DB[precision]) if signal == "music" else values


def waves(separator: Separator, parts: Sequence[Any]) -> list[Tensor]:
    """Return the stems of each part, (stems, channels, samples) on the CPU."""
    return [stems.cpu() for stems in golden().waves_of(separator, parts)]


def place(setup: Setup, separator: Separator) -> Iterator[Tensor]:
    """Yield the stems of one patch alone, then at every place of a batch between others."""
    mine, other = setup.part(1), setup.part(1, wave=setup.music[:, ::-1])
    yield waves(separator, [mine])[0]
    for number in range(setup.batch):
        others = [other] * (setup.batch - 1)
        yield waves(separator, [*others[:number], mine, *others[number:]])[number]


def neighbours(setup: Setup, separator: Separator) -> Iterator[Tensor]:
    """Yield the stems of one patch beside loud and quiet ones."""
    mine = setup.part(1)
    for factor in (LOUD, QUIET, 0.0):
        other = setup.part(1, wave=factor * np.sign(setup.music))
        yield waves(separator, [mine, *[other] * (setup.batch - 1)])[0]


def batch_size(setup: Setup, separator: Separator) -> Iterator[Tensor]:
    """Yield the stems of one part in batches of different sizes."""
    part = setup.part(4)
    for batch in (1, 2, 4) if setup.small else (1, 5, 10, 20):
        yield waves(setup.separator(separator.precision, batch=batch), [part])[0]


def room(setup: Setup, separator: Separator) -> Iterator[Tensor]:
    """Yield the stems of one part with the whole batch, and with half of it and less at once."""
    part, whole = setup.part(4), separator.room
    for at_once in (whole, whole // 2, 1):
        separator.room = at_once
        try:
            yield waves(separator, [part])[0]
        finally:
            separator.room = whole


ASPECTS = {"place": place, "neighbours": neighbours, "batch_size": batch_size, "room": room}
PROMISED = (place, neighbours)  # of these, design.md says that no bit depends on them


def bits(setup: Setup, measure: Any, precision: str) -> Values:
    """Compare the first result with all others; the worst one counts."""
    first, *others = measure(setup, setup.separator(precision))
    compared = [agreement(first, other) for other in others]
    different = [values for values in compared if not values["equal"]]
    worst = min(different, key=lambda values: values["db"], default={"db": None, "equal": True})
    values = {**worst, "results": 1 + len(others), "differ": len(different)}
    return {**values, "ok": not different} if measure in PROMISED else values
