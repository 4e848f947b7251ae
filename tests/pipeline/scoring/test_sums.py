"""Sums of blocks: the ratios of whole waves, whatever the blocks are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from signals import noise, snr_db, tone

from sep_batch.pipeline.scoring.aligned import aligned
from sep_batch.pipeline.scoring.sums import Sums

EXACT_DB = 1e-6


def pieces(wave, length):
    return (wave[:, begin : begin + length] for begin in range(0, wave.shape[1], length))


def sums_of(reference, other, lengths=(700, 1000)):
    sums = Sums()
    for blocks in aligned([pieces(reference, lengths[0]), pieces(other, lengths[1])]):
        sums.add(*blocks)
    return sums


def si_sdr_db(reference, other):
    """Le Roux et al. 2019, equation 5, on whole waves."""
    true, ours = (wave.astype(np.float64) - wave.mean(axis=1, keepdims=True, dtype=np.float64) for wave in (reference, other))
    target = np.sum(true * ours) / np.sum(true**2) * true
    return 10 * math.log10(np.sum(target**2) / np.sum((target - ours) ** 2))


@pytest.mark.parametrize("lengths", [(1, 1), (700, 1000), (10_000, 333)])
def test_the_ratios_are_those_of_whole_waves_however_they_are_cut(lengths):
    true = tone(440, 5000)
    other = 0.8 * true + noise(5000, level=0.01) + np.float32(0.02)
    sums = sums_of(true, other, lengths)
    assert sums.samples == 5000
    assert sums.snr_db == pytest.approx(snr_db(true, other), abs=EXACT_DB)
    assert sums.si_sdr_db == pytest.approx(si_sdr_db(true, other), abs=EXACT_DB)


def test_neither_scale_nor_offset_changes_the_scale_invariant_ratio():
    true = tone(440, 5000)
    other = true + noise(5000, level=0.01)
    expected = sums_of(true, other).si_sdr_db
    assert sums_of(true, 0.25 * other + np.float32(0.1)).si_sdr_db == pytest.approx(expected, abs=1e-3)


def test_a_level_is_that_of_the_other_wave_over_the_reference():
    true = tone(440, 5000)
    assert sums_of(true, true / 2).level_db == pytest.approx(-6.0206, abs=1e-4)
    assert sums_of(true, true / 2).snr_db == pytest.approx(6.0206, abs=1e-4)


def test_equal_waves_are_infinitely_near_and_silence_is_infinitely_far():
    true, silence = tone(440, 500), np.zeros((2, 500), np.float32)
    assert (sums_of(true, true).snr_db, sums_of(true, true).si_sdr_db) == (math.inf, math.inf)
    assert sums_of(silence, silence).snr_db == math.inf
    assert sums_of(silence, true).snr_db == -math.inf
    assert sums_of(true, silence).snr_db == 0
    assert sums_of(true, silence).si_sdr_db == -math.inf


def test_waves_are_compared_up_to_the_end_of_the_shortest_and_all_are_read_to_their_ends():
    longer = pieces(tone(440, 5000), 700)
    blocks = list(aligned([longer, pieces(tone(440, 1500), 1000)]))
    assert sum(true.shape[1] for true, _ in blocks) == 1500
    assert next(longer, None) is None
