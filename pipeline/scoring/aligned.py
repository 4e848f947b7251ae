"""Several waves, cut into blocks of the same length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_ENDED = np.empty((2, 0), np.float32)


def aligned(waves: Sequence[Iterator[np.ndarray]]) -> Iterator[list[np.ndarray]]:
    """Yield blocks of several waves up to the end of the shortest, then read the others to their ends.

    Args:
        waves: Pieces of each wave, (2, samples) float32, none of them empty.

    Yields:
        One block of each wave, all of the same samples.
    """
    blocks = [_ENDED] * len(waves)
    while True:
        blocks = [block if block.shape[1] else next(wave, _ENDED) for block, wave in zip(blocks, waves, strict=True)]
        if not (samples := min(block.shape[1] for block in blocks)):
            break
        yield [block[:, :samples] for block in blocks]
        blocks = [block[:, samples:] for block in blocks]
    for wave in waves:  # its facts, as its length, are complete at its end
        for _ in wave:
            pass
