"""Synthesised signals and measures: what the tests listen to, and how they judge it."""

from __future__ import annotations

import math

import numpy as np

RATE_HZ = 44_100


def noise(samples: int, *, channels: int = 2, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """Return white noise, (channels, samples) float32, of this RMS level."""
    drawn = np.random.default_rng(seed).standard_normal((channels, samples))
    return (level * drawn).astype(np.float32)


def tone(
    frequency_hz: float, samples: int, *, channels: int = 2, level: float = 0.5, rate_hz: int = RATE_HZ, start: int = 0
) -> np.ndarray:
    """Return a sine, (channels, samples) float32, of this peak level; it begins at sample `start` of the endless one."""
    time_s = (start + np.arange(samples)) / rate_hz
    wave = level * np.sin(2 * math.pi * frequency_hz * time_s)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def snr_db(expected: np.ndarray, found: np.ndarray) -> float:
    """Return how well a wave agrees with the expected one: energy of the expected over energy of the difference, in dB."""
    true, ours = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    assert true.shape == ours.shape, f"found shape {ours.shape}, expected {true.shape}"
    error = float(np.sum((true - ours) ** 2))
    return math.inf if error == 0 else 10 * math.log10(float(np.sum(true**2)) / error)


def level_db(wave: np.ndarray) -> float:
    """Return a wave's RMS level in dB of full scale."""
    return 10 * math.log10(float(np.mean(np.asarray(wave, np.float64) ** 2)))


def frequency_hz(wave: np.ndarray, rate_hz: int = RATE_HZ) -> float:
    """Return the strongest frequency of one channel: the highest bin of its spectrum, refined by a parabola."""
    spectrum = np.log(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) + 1e-12)
    peak = int(np.argmax(spectrum[1:-1])) + 1
    below, at, above = spectrum[peak - 1 : peak + 2]
    return float((peak + (below - above) / (2 * (below - 2 * at + above))) * rate_hz / len(wave))


def resample(wave, from_hz, to_hz, *, piece=65_536):
    """Return a wave (channels, samples) at another rate, resampled in pieces."""
    from sep_batch.pipeline.audio.resample import Resampler

    resampler = Resampler(from_hz, to_hz, len(wave))
    pieces = list(resampler.through(wave[:, begin : begin + piece] for begin in range(0, wave.shape[1], piece)))
    assert all(each.size for each in pieces)
    return np.concatenate(pieces, axis=1)
