"""Where a stem is active: at any sampling rate, on either side of every border of the definition."""

from __future__ import annotations

import numpy as np
import pytest
from signals import RATE_HZ, noise, tone

from sep_batch.pipeline.audio import activity

WINDOW_S = 0.1
EDGE_S = 2 * WINDOW_S  # a region may begin and end so far from what is true
RATES_HZ = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000]


def wave(*pieces, rate_hz=RATE_HZ):
    """Join (seconds, level in dBFS) of a tone to (samples, 2) float32; the level is the RMS."""
    tones = [tone(441, round(s * rate_hz), level=2**0.5 * 10 ** (db / 20), rate_hz=rate_hz) for s, db in pieces]
    return np.concatenate(tones, axis=1).T


def regions(*pieces, rate_hz=RATE_HZ):
    return [pytest.approx(region) for region in activity.of_wave(wave(*pieces, rate_hz=rate_hz), rate_hz).regions]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_known_regions_are_found_at_any_rate(rate_hz):
    mix = wave((1.23, -80), (2.5, -20), (1.31, -60), (3, -30), (0.7, -90), rate_hz=rate_hz)
    found = activity.of_wave(mix, rate_hz)
    assert np.array(found.regions) == pytest.approx(np.array([(1.23, 3.73), (5.04, 8.04)]), abs=EDGE_S)
    assert found.ratio == pytest.approx(5.5 / 8.74, abs=2 * EDGE_S / 8.74)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_what_always_sounds_is_one_region_and_silence_none(rate_hz):
    sound = noise(3 * rate_hz + 17, level=0.1).T
    assert activity.of_wave(sound, rate_hz) == ([(0.0, len(sound) / rate_hz)], 1.0)
    assert activity.of_wave(np.zeros_like(sound), rate_hz) == ([], 0.0)


def test_it_becomes_active_above_the_upper_threshold_and_stays_so_to_the_lower_one():
    assert regions((1, -36), (1, -34), (1, -44), (1, -46)) == [(1.0, 3.0)]
    assert regions((1, -44), (1, -46), (1, -36)) == []


def test_a_short_gap_is_filled_and_a_longer_one_is_not():
    assert regions((1, -20), (0.4, -90), (1, -20)) == [(0.0, 2.4)]
    assert regions((1, -20), (0.5, -90), (1, -20)) == [(0.0, 1.0), (1.5, 2.5)]
    assert regions((0.4, -90), (1, -20), (0.4, -90)) == [(0.4, 1.4)]


def test_a_short_region_is_dropped_and_a_longer_one_is_not():
    assert regions((1, -90), (0.1, -20), (1, -90), (0.2, -20), (1, -90)) == [(2.1, 2.3)]


def test_short_regions_with_short_gaps_between_are_one_long_one():
    assert regions((1, -90), *[(0.1, -20), (0.3, -90)] * 3, (1, -90)) == [(1.0, 1.9)]


@pytest.mark.parametrize("samples", [1, 2, 4_409, 4_410, 4_411, 8_820])
def test_the_shortest_waves_have_an_activity(samples):
    found = activity.of_wave(tone(441, samples, level=0.9).T, RATE_HZ)
    assert found.ratio == (1.0 if samples > 4_410 else 0.0)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_level_is_that_of_all_channels_together(channels):
    sound = np.zeros((RATE_HZ, channels), np.float32)
    sound[:, 0] = 10 ** (-34 / 20) * channels**0.5
    assert activity.of_wave(sound, RATE_HZ).ratio == 1
    assert activity.of_wave(sound * np.float32(0.8), RATE_HZ).ratio == 0


def test_an_excerpt_is_as_active_as_the_track_is_there():
    track = wave((2, -20), (2, -70), (3, -25))
    found = activity.of_wave(track[RATE_HZ : 6 * RATE_HZ], RATE_HZ)
    assert found.regions == [pytest.approx((0, 1)), pytest.approx((3, 5))]
    assert found.ratio == pytest.approx(3 / 5)


def energies(sound, rate_hz=RATE_HZ):
    window = activity.window_samples(rate_hz)
    return np.array([np.sum(sound[begin : begin + window].astype(float) ** 2) for begin in range(0, len(sound), window)])


def levels(sound, rate_hz=RATE_HZ):
    found = activity.levels(energies(sound, rate_hz), len(sound), channels=sound.shape[1], rate_hz=rate_hz)
    assert found.dtype == np.int8
    return found.tolist()


def test_levels_are_those_of_each_second_begun():
    assert levels(wave((1, -20), (0.5, -30), (0.5, -90), (1.1, -40.4))) == [-20, -33, -40, -40]


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_there_are_as_many_levels_as_seconds_begun(rate_hz):
    sound = noise(round(7.3 * rate_hz), level=0.1).T
    assert levels(sound, rate_hz) == [-20] * 8


def test_levels_are_clipped_to_a_hundred_decibels():
    assert levels(wave((1, -120), (1, 6))) == [-100, 0]
    assert levels(np.zeros((100, 2), np.float32)) == [-100]
