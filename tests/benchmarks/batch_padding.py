"""The share of a GPU's work that is padding, the time to put a batch together, and how busy a device is kept that sleeps.

    python tests/benchmarks/batch_padding.py

Songs of lognormal length, 3:45 in the median, 14 % of them above 5 minutes. Their parts have up to 20 patches, and each part is a
block of its own. The first table is of batches that end with their block, by the number of patches in a batch. Then 20 patches
are put together in a batch of 32: in a new buffer, as before, and in a kept one. The last table is of a device that sleeps for
`BATCH_S` a batch; after a part, its call takes `AFTER_S` for the stems' way back and into the object store.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from sep_batch.model.batching import Batches
from sep_batch.model.separator import GPU_BATCH, _stacked
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART

SPEC = PRESETS["spleeter:2stems"]
ROUNDS = 9
BATCH_S = GPU_BATCH * SPEC.patch_samples / SPEC.sample_rate_hz / 1500  # 1,500 x real time
AFTER_S = 0.06
FED_PARTS = 60


class Device:
    """Computes one batch at a time, by sleeping; counts seconds at work and places in batches."""

    def __init__(self, threads: int) -> None:
        self.busy_s, self.places, self._lock, self._kept = 0.0, 0, threading.Lock(), threading.local()
        self.queue = Batches(self._compute, size=GPU_BATCH, threads=threads)

    def _compute(self, _kind: str, patches: list[np.ndarray]) -> list[None]:
        if not hasattr(self._kept, "buffer"):
            self._kept.buffer = torch.zeros((GPU_BATCH, *patches[0].shape), dtype=torch.complex64)
        _stacked(patches, self._kept.buffer)
        with self._lock:
            time.sleep(BATCH_S)
            self.busy_s += BATCH_S
            self.places += GPU_BATCH
        return [None] * len(patches)

    def separate(self, parts: Iterator[list[np.ndarray]]) -> None:
        """Separate parts, as one call after the other."""
        for patches in parts:
            for _ in self.queue.results(("", patch) for patch in patches):
                pass
            time.sleep(AFTER_S)


class Shared(Iterator[list[np.ndarray]]):
    """Parts that several calls take from."""

    def __init__(self, counts: np.ndarray) -> None:
        patch = np.ones((SPEC.patch_frames, SPEC.channels, SPEC.kept_bins), np.complex64)
        self._parts, self._lock = iter([[patch] * int(count) for count in counts]), threading.Lock()

    def __next__(self) -> list[np.ndarray]:
        with self._lock:
            return next(self._parts)


def fed(counts: np.ndarray, *, calls: int, threads: int) -> tuple[float, float, float]:
    """Return the share of the time that the device is busy, the share of padding, and parts a second."""
    device, parts, begun = Device(threads), Shared(counts), time.perf_counter()
    with ThreadPoolExecutor(calls) as pool:
        for call in [pool.submit(device.separate, parts) for _ in range(calls)]:
            call.result()
    seconds = time.perf_counter() - begun
    return device.busy_s / seconds, 1 - counts.sum() / device.places, len(counts) / seconds


def parts(songs: int) -> np.ndarray:
    """Return the number of patches of each part of so many songs."""
    seconds = np.random.default_rng(0).lognormal(np.log(225), 0.27, songs).clip(20, 1200)
    patches = np.ceil(seconds * SPEC.sample_rate_hz / SPEC.patch_samples).astype(int)
    whole, rest = np.divmod(patches, PATCHES_PER_PART)
    counts = np.concatenate([np.full(whole.sum(), PATCHES_PER_PART), rest[rest > 0]])
    return np.random.default_rng(1).permutation(counts)


def milliseconds(kept: torch.Tensor | None, patches: list[np.ndarray], shape: tuple[int, ...]) -> float:
    """Return the time to put patches together, in a kept buffer or in a new one."""
    begun = time.perf_counter()
    _stacked(patches, torch.zeros(shape, dtype=torch.complex64) if kept is None else kept)
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    """Print both tables."""
    counts = parts(200_000)
    for batch in (32, 20, 16, 10, 8, 5):
        places = np.ceil(counts / batch).sum() * batch
        sys.stdout.write(f"batches of {batch}: {1 - counts.sum() / places:.0%} padding\n")
    shape = (32, SPEC.patch_frames, SPEC.channels, SPEC.kept_bins)
    patches = [np.ones(shape[1:], np.complex64) for _ in range(PATCHES_PER_PART)]
    kept = torch.zeros(shape, dtype=torch.complex64)
    pairs = [(milliseconds(None, patches, shape), milliseconds(kept, patches, shape)) for _ in range(ROUNDS)]
    new, again = (statistics.median(column) for column in zip(*pairs, strict=True))
    sys.stdout.write(f"20 patches put together: {new:.0f} ms in a new buffer, {again:.0f} ms in a kept one\n")
    for calls, threads in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 2)):
        busy, padding, per_s = fed(counts[:FED_PARTS], calls=calls, threads=threads)
        sys.stdout.write(
            f"{calls} calls, {threads} batches at work: the device busy {busy:.0%}, {padding:.0%} padding, {per_s:.2f} parts/s\n"
        )


if __name__ == "__main__":
    main()
