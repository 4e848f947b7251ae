"""Loudness from K-weighted energies, beside FFmpeg's meter and beside the filter sample by sample."""

from __future__ import annotations

import ebur128
import numpy as np
import pytest
import torch
from signals import RATE_HZ, noise, snr_db, tone

from sep_batch.pipeline.audio import loudness
from sep_batch.pipeline.stages import k_weighting
from sep_batch.pipeline.stages.k_weighting import KWeighted

METER_LU = 0.05  # FFmpeg's meter rounds to 0.1 LU on the way, and counts powers in steps of 0.01 LU
PARTS_LU = 0.02
FILTER_DB = 80


def energies_of(wave, rate_hz=RATE_HZ, *, begin=0, piece=None):
    """Give a wave, (2, samples), as one stem, in pieces."""
    found = KWeighted(rate_hz, stems=1, begin=begin, samples=wave.shape[1])
    for start in range(0, wave.shape[1], piece or wave.shape[1]):
        found.add(torch.from_numpy(wave[None, :, start : start + (piece or wave.shape[1])]))
    return found.rows()[0]


def lufs_of(wave, rate_hz=RATE_HZ, **how):
    return loudness.integrated(energies_of(wave, rate_hz, **how), wave.shape[1], rate_hz)


def song(seconds=12.0, rate_hz=RATE_HZ):
    """Loud and soft passages, bass, a pause, and a click: each gate has something to do."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    level = np.interp(time_s % 4, [0, 1, 1.2, 2.5, 2.6, 3.5, 4], [0.5, 0.4, 0.02, 0.01, 0.3, 0.3, 0.0])
    left = np.sin(2 * np.pi * 55 * time_s) + 0.5 * np.sin(2 * np.pi * 1234 * time_s) + 0.3 * np.sin(2 * np.pi * 3000 * time_s)
    wave = np.stack([left, np.roll(left, 100)]) * level * 0.5
    wave[:, (time_s > 8) & (time_s < 9)] = 0
    wave[0, len(time_s) // 2] = 0.9
    return wave.astype(np.float32)


SIGNALS = {
    "a song": song(),
    "noise": noise(5 * RATE_HZ, level=0.1),
    "30 Hz": tone(30, 5 * RATE_HZ, level=0.8),
    "10 kHz": tone(10_000, 5 * RATE_HZ, level=0.01),
    "one channel": np.stack([noise(3 * RATE_HZ, level=0.2)[0], np.zeros(3 * RATE_HZ, np.float32)]),
    "a quiet tone on a large constant": (tone(440, 5 * RATE_HZ, level=0.001) + 0.5).astype(np.float32),
    "a square wave": np.sign(tone(220, 5 * RATE_HZ, level=1.0)).astype(np.float32),
    "mostly silence": np.concatenate([noise(RATE_HZ, level=0.3), np.zeros((2, 20 * RATE_HZ), np.float32)], axis=1),
    "half a second": noise(RATE_HZ // 2, level=0.1),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_the_loudness_is_that_of_ffmpegs_meter(name):
    assert lufs_of(SIGNALS[name]) == pytest.approx(ebur128.lufs(SIGNALS[name], RATE_HZ), abs=METER_LU)


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 22_050, 48_000, 96_000, 192_000])
def test_the_loudness_is_that_of_ffmpegs_meter_at_each_rate(rate_hz):
    wave = song(6, rate_hz)
    assert lufs_of(wave, rate_hz) == pytest.approx(ebur128.lufs(wave, rate_hz), abs=METER_LU)


@pytest.mark.parametrize("samples", [17_640, 17_639, 22_049, 22_050, 30_001])
def test_a_last_block_that_is_not_whole_does_not_count(samples):
    wave = np.concatenate([noise(samples - 4000, level=0.01), noise(4000, level=0.5)], axis=1)
    found, expected = lufs_of(wave), ebur128.lufs(wave, RATE_HZ)
    assert (found is None) == (expected is None)
    assert found == pytest.approx(expected, abs=METER_LU)


def sample_by_sample(wave, rate_hz):
    filtered = wave.astype(np.float64)
    for numerator, denominator in k_weighting._sections(rate_hz):
        states, out = np.zeros((2, len(wave))), np.zeros_like(filtered)
        for number, values in enumerate(filtered.T):
            out[:, number] = numerator[0] * values + states[0]
            states[0] = numerator[1] * values - denominator[1] * out[:, number] + states[1]
            states[1] = numerator[2] * values - denominator[2] * out[:, number]
        filtered = out
    return filtered


@pytest.mark.parametrize("rate_hz", [8000, 44_100])
@pytest.mark.parametrize("piece", [1, 31, 32, 33, 5000, 20_011])
def test_the_filter_in_blocks_is_the_filter_sample_by_sample_however_a_wave_is_cut(rate_hz, piece):
    samples = 20_011 if piece > 33 else 1000
    wave, window = noise(samples, level=0.1), loudness.window_samples(rate_hz)
    expected = np.add.reduceat((sample_by_sample(wave, rate_hz) ** 2).sum(axis=0), range(0, samples, window))
    assert snr_db(expected, energies_of(wave, rate_hz, piece=piece)) > FILTER_DB


@pytest.mark.parametrize(
    ("cut", "offset"), [(1, 0.0), (4410, 0.0), (4410, 0.5), (5 * RATE_HZ + 17, 0.0), (5 * RATE_HZ + 17, 0.5)]
)
def test_the_loudness_of_a_track_in_parts_is_that_of_the_whole(cut, offset):
    # with an offset, a step at the border would be louder than the signal
    wave = (noise(12 * RATE_HZ, level=0.001) + offset).astype(np.float32) if offset else song()
    window = loudness.window_samples(RATE_HZ)
    energies = np.zeros(-(-wave.shape[1] // window))
    for begin, part in ((0, wave[:, :cut]), (cut, wave[:, cut:])):
        found = energies_of(part, begin=begin)
        energies[begin // window : begin // window + len(found)] += found
    assert loudness.integrated(energies, wave.shape[1], RATE_HZ) == pytest.approx(lufs_of(wave), abs=PARTS_LU)


@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_silence_and_what_the_absolute_gate_leaves_out_have_no_loudness(level):
    assert lufs_of(noise(RATE_HZ, level=1.0) * np.float32(level)) is None
