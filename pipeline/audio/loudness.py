"""Integrated loudness from the energies of K-weighted windows.

Source: EBU R 128, ITU-R BS.1770.
"""

from __future__ import annotations

import math

import numpy as np

OFFSET_LUFS = -0.691  # of the K-weighting at 997 Hz
SILENCE_LUFS = -70.0  # the absolute gate
RELATIVE_LU = 10.0  # the relative gate, below the loudness of what passes the absolute one
BLOCK_WINDOWS = 4  # a block of 0.4 s begins with each window


def window_samples(rate_hz: int) -> int:
    """Return the samples of a window of 0.1 s."""
    return max(1, rate_hz // 10)


def integrated(energies: np.ndarray, samples: int, rate_hz: int) -> float | None:
    """Return the integrated loudness of a wave in LUFS; None below 0.4 s or in silence.

    Args:
        energies: Sum of squares over all channels of each window after K-weighting; the last window may be incomplete.
        samples: Samples per channel.
        rate_hz: Sample rate.
    """
    window = window_samples(rate_hz)
    whole = energies[: samples // window]
    first = -(-(rate_hz * 4 // 10) // window)  # windows until 0.4 s have passed: five where a window is less than 0.1 s
    if len(whole) < first:
        return None
    sums = np.concatenate([[0.0], np.cumsum(whole, dtype=np.float64)])
    powers = (sums[BLOCK_WINDOWS:] - sums[:-BLOCK_WINDOWS]) / (BLOCK_WINDOWS * window)
    powers = powers[first - BLOCK_WINDOWS :]
    powers = powers[powers > _power(SILENCE_LUFS)]
    if not len(powers):
        return None
    return _lufs(powers[powers > _power(_lufs(powers.mean()) - RELATIVE_LU)].mean())


def _lufs(power: float) -> float:
    return OFFSET_LUFS + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - OFFSET_LUFS) / 10))
