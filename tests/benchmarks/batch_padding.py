"""The share of a GPU's work that is padding, by the number of patches in a batch, and the time to put a batch together.

    python tests/benchmarks/batch_padding.py

Songs of lognormal length, 3:45 in the median, 14 % of them above 5 minutes. Their parts have up to 20 patches, and each part is a
block of its own. The last line is of 20 patches in a batch of 32: in a new buffer, as before, and in a kept one.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import torch

from sep_batch.model.separator import _stacked
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART

SPEC = PRESETS["spleeter:2stems"]
ROUNDS = 9


def parts(songs: int) -> np.ndarray:
    """Return the number of patches of each part of so many songs."""
    seconds = np.random.default_rng(0).lognormal(np.log(225), 0.27, songs).clip(20, 1200)
    patches = np.ceil(seconds * SPEC.sample_rate_hz / SPEC.patch_samples).astype(int)
    whole, rest = np.divmod(patches, PATCHES_PER_PART)
    return np.concatenate([np.full(whole.sum(), PATCHES_PER_PART), rest[rest > 0]])


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


if __name__ == "__main__":
    main()
