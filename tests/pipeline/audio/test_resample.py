"""Another rate: exact lengths, the same samples however a wave is cut, a tone's level and what is above the new range."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from signals import RATE_HZ, frequency_hz, level_db, noise, resample, snr_db, tone

from sep_batch.pipeline.audio.resample import resampled

RATES = [(RATE_HZ, 48_000), (RATE_HZ, 16_000), (RATE_HZ, 8_000), (RATE_HZ, 22_050), (RATE_HZ, 96_000), (16_000, RATE_HZ)]
PASSED_DB = 0.05  # that a tone up to 0.9 of the lower half rate loses at most
TONE_DB = 90  # of a tone against the tone that it should be
ALIAS_DB = -90  # of what is above the new half rate


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("samples", [1, 2, 100, 1000, 44_100, 65_537])
def test_a_wave_has_its_exact_length_at_another_rate(from_hz, to_hz, samples):
    for channels in (1, 2):
        found = resample(noise(samples, channels=channels), from_hz, to_hz)
        assert found.shape == (channels, -(-samples * to_hz // from_hz))
        assert np.isfinite(found).all()


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_a_wave_gives_the_same_samples_however_it_is_cut(from_hz, to_hz):
    wave = noise(150_001)
    whole = resample(wave, from_hz, to_hz, piece=wave.shape[1])
    for piece in (1000, 4097, 65_536):
        assert np.array_equal(resample(wave, from_hz, to_hz, piece=piece), whole)


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_a_tone_survives_at_its_place_with_its_level(from_hz, to_hz):
    lower = min(from_hz, to_hz) / 2
    for share in (0.02, 0.5, 0.9):
        wave, expected = (tone(share * lower, 2 * rate_hz, rate_hz=rate_hz) for rate_hz in (from_hz, to_hz))
        found = resample(wave, from_hz, to_hz)
        assert abs(level_db(found) - level_db(wave)) < PASSED_DB
        assert frequency_hz(found[0], to_hz) == pytest.approx(share * lower, rel=1e-4)
        if share < 0.9:
            assert snr_db(expected[:, 4000:-4000], found[:, 4000:-4000]) > TONE_DB


@pytest.mark.parametrize(("to_hz", "share"), list(itertools.product([8_000, 16_000, 22_050], [1.06, 1.2, 1.8])))
def test_what_is_above_the_new_range_is_gone(to_hz, share):
    wave = tone(share * to_hz / 2, 2 * RATE_HZ)
    found = resample(wave, RATE_HZ, to_hz)
    assert level_db(found[:, 4000:-4000]) - level_db(wave) < ALIAS_DB


def test_the_first_samples_and_the_last_are_those_of_the_wave():
    wave, expected = tone(100, RATE_HZ), tone(100, 16_000, rate_hz=16_000)
    found = resample(wave, RATE_HZ, 16_000)
    for end in (slice(0, 100), slice(15_900, 15_980)):
        assert snr_db(expected[:, end], found[:, end]) > 20


def test_the_same_rate_leaves_a_wave_as_it_is():
    assert np.array_equal(resample(noise(5000), RATE_HZ, RATE_HZ), noise(5000))


@pytest.mark.parametrize("samples", [0, 1, 44_099, 44_100, 44_101])
def test_lengths_are_rounded_up(samples):
    assert resampled(samples, RATE_HZ, RATE_HZ) == samples
    assert 0 <= resampled(samples, RATE_HZ, 16_000) - samples * 16_000 / RATE_HZ < 1
