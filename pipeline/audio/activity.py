"""Where a stem is active. The one place that says what active means; pure functions of numpy arrays.

A stem's power is taken in windows of 100 ms, side by side from the start of the track, both channels together. It becomes active
in the first window at or above `ON_DBFS` and stays so to the first one below `OFF_DBFS`; gaps shorter than `SHORTEST_GAP_S` (a
breath, the time between two beats) are filled, then regions shorter than `SHORTEST_REGION_S` (a click) are dropped.

The thresholds are absolute, so an excerpt can be judged without its track, and are ours: in the real songs they were tried on,
vocals lie near -20 dBFS, and what leaks into them where nobody sings lies below -36 dBFS in 95 % of the windows.

Sources: levels window by window (theirs 93 ms) as what tells a stem's activity: R. Bittner et al., "MedleyDB: A Multitrack
Dataset for Annotation-Intensive MIR Research", ISMIR 2014, instrument activations (theirs are relative to the other stems, which
an excerpt alone does not have). Two thresholds, then short gaps filled, then short regions dropped: G. Gelly, J.-L. Gauvain,
"Minimum Word Error Training of RNN-based Voice Activity Detection", Interspeech 2015, as pyannote.audio's `Binarize` has it
(onset, offset, min_duration_off, min_duration_on).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WINDOWS_PER_S = 10
ON_DBFS, OFF_DBFS = -35.0, -45.0
SHORTEST_GAP_S, SHORTEST_REGION_S = 0.5, 0.2
SILENCE_DBFS = -100  # the lowest level that is told


class Activity(NamedTuple):
    """Where a stem is active.

    Attributes:
        regions: Start and end of each, in seconds from the start of the track, in order, not touching.
        ratio: Their share of the track, 0 to 1.
    """

    regions: list[tuple[float, float]]
    ratio: float


def window_samples(rate_hz: int) -> int:
    """Return a window's length: 100 ms, as near as whole samples come."""
    return max(round(rate_hz / WINDOWS_PER_S), 1)


def levels(energies: np.ndarray, samples: int, *, channels: int, rate_hz: int) -> np.ndarray:
    """Return the RMS level of each second begun, in whole dB of full scale from -100 (silence) to 0, as int8.

    A window belongs to the second in which it begins; where ten of them are no whole second, a second is those.

    Args:
        energies: Sum of squares of each window begun, all channels together.
        samples: Number of samples of the track, a channel.
        channels: How many.
        rate_hz: Sampling rate.
    """
    begins = np.arange(0, samples, window_samples(rate_hz))
    firsts = np.unique(begins // rate_hz, return_index=True)[1]
    values = channels * np.diff(np.append(begins[firsts], samples))
    decibels = 10 * np.log10(np.maximum(np.add.reduceat(energies, firsts) / values, 10.0 ** (SILENCE_DBFS / 10)))
    return np.asarray(np.minimum(decibels.round(), 0), np.int8)


def of_energies(energies: np.ndarray, samples: int, *, channels: int, rate_hz: int) -> Activity:
    """Find where a stem is active.

    Args:
        energies: Energy of each window of 100 ms, as `levels` takes them.
        samples: Number of samples of the track, a channel.
        channels: How many.
        rate_hz: Sampling rate.
    """
    window = window_samples(rate_hz)
    lengths = np.diff(np.append(np.arange(0, samples, window), samples))
    in_samples = np.minimum(_regions(_active(energies / (lengths * channels))) * window, samples)
    regions = [(float(start), float(end)) for start, end in in_samples / rate_hz]
    return Activity(regions, float(np.diff(in_samples).sum() / samples))


def of_wave(wave: np.ndarray, rate_hz: int) -> Activity:
    """Find where a wave is active.

    Args:
        wave: (samples, channels) float32, full scale 1, at least one sample.
        rate_hz: Sampling rate, any.
    """
    samples, channels = wave.shape
    squares = np.einsum("sc,sc->s", wave, wave, dtype=np.float64)
    energies = np.add.reduceat(squares, np.arange(0, samples, window_samples(rate_hz)))
    return of_energies(energies, samples, channels=channels, rate_hz=rate_hz)


def _active(powers: np.ndarray) -> np.ndarray:
    """Tell of each window, by its mean square, whether it is active: one between the thresholds is what the one before it is."""
    is_on, is_off = powers >= 10 ** (ON_DBFS / 10), powers < 10 ** (OFF_DBFS / 10)
    says = np.maximum.accumulate(np.where(is_on | is_off, np.arange(powers.size), -1))
    return np.asarray((says >= 0) & is_on[says])


def _regions(active: np.ndarray) -> np.ndarray:
    """Return the first window and the one after the last of each region, (regions, 2)."""
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0))
    gaps = _at_least(SHORTEST_GAP_S, edges[1:-1].reshape(-1, 2))
    return _at_least(SHORTEST_REGION_S, np.concatenate([edges[:1], gaps.ravel(), edges[-1:]]).reshape(-1, 2))


def _at_least(seconds: float, runs: np.ndarray) -> np.ndarray:
    """Return those runs of windows that are so long."""
    return np.asarray(runs[np.diff(runs).ravel() >= round(seconds * WINDOWS_PER_S)])
