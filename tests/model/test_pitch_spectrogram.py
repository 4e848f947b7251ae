"""Levels over time and pitch: a tone is in its row at its level, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from signals import RATE_HZ, noise, tone

from sep_batch.model.pitch_spectrogram import COLUMNS, LOW_HZ, ROWS, TOP_HZ, PitchSpectrogram


@pytest.mark.parametrize("hz", [110, 1_000, 9_000])
@pytest.mark.parametrize("block", [1_000, 100_000])
def test_a_tone_is_loudest_in_its_row_at_its_level_whatever_the_blocks(hz, block):
    wave = 0.5 * tone(hz, 3 * RATE_HZ)
    spectrogram = PitchSpectrogram(wave.shape[1], RATE_HZ)
    for begin in range(0, wave.shape[1], block):
        spectrogram.add(wave[:, begin : begin + block])
    levels = spectrogram.levels_db()
    row = ROWS * np.log(hz / LOW_HZ) / np.log(TOP_HZ / LOW_HZ)
    middle = levels[:, 10:-10]
    assert np.abs(middle.argmax(axis=0) - row).max() <= 3
    assert middle.max() == pytest.approx(20 * np.log10(np.abs(wave).max()), abs=1.5)


@pytest.mark.parametrize(("samples", "least", "most"), [(60 * RATE_HZ, COLUMNS - 5, COLUMNS), (RATE_HZ, 40, 44), (100, 1, 1)])
def test_a_long_wave_has_as_many_columns_as_fit_and_a_short_one_has_one(samples, least, most):
    spectrogram = PitchSpectrogram(samples, RATE_HZ)
    wave = noise(samples)
    for begin in range(0, samples, 100_000):
        spectrogram.add(wave[:, begin : begin + 100_000])
    assert least <= spectrogram.levels_db().shape[1] <= most


def test_silence_is_the_floor():
    spectrogram = PitchSpectrogram(RATE_HZ, RATE_HZ)
    spectrogram.add(np.zeros((2, RATE_HZ), np.float32))
    assert (spectrogram.levels_db() == spectrogram.levels_db().min()).all()
