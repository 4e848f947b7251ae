"""How busy the GPU is while something runs, as `nvidia-smi` polls it."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, Self

POLL_S = 0.4
QUERY = "utilization.gpu,memory.used,clocks.sm,power.draw"


class Sample(NamedTuple):
    """One poll: seconds since the start, busy %, memory in MB, clock in MHz, power in W; None where it is not readable."""

    at_s: float
    busy: float | None
    memory_mb: float | None
    clock_mhz: float | None
    power_w: float | None


def parsed(line: str, at_s: float) -> Sample:
    """Read one line of `nvidia-smi --format=csv,noheader,nounits`."""
    values: list[float | None] = []
    for text in line.split(","):
        try:
            values.append(float(text))
        except ValueError:
            values.append(None)
    return Sample(at_s, *(values + [None] * 4)[:4])


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """Return the mean busy % of all polls, and of those from the first to the last busy one; peaks of memory, clock and power."""
    busy = [sample.busy or 0.0 for sample in samples]
    if not busy:
        return {}
    at_work = [number for number, value in enumerate(busy) if value > 0]
    window = busy[at_work[0] : at_work[-1] + 1] if at_work else []
    values = {"gpu_polls": float(len(busy)), "gpu_busy": statistics.fmean(busy)}
    values |= {"gpu_busy_at_work": statistics.fmean(window)} if window else {}
    for name in ("memory_mb", "clock_mhz", "power_w"):
        if known := [value for sample in samples if (value := getattr(sample, name)) is not None]:
            values[f"gpu_{name}"] = max(known)
    return values


class GpuBusy:
    """Polls the first GPU until the block ends; without `nvidia-smi` there are no samples."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _poll(self) -> None:
        command, begun = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", "--id=0"], time.monotonic()
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            while not self._ended.wait(POLL_S):
                line = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
                self.samples.append(parsed(line, time.monotonic() - begun))
