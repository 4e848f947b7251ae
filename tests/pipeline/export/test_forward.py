"""A wave in pieces is cut as the whole would be, and no more of it is held than is cut at once."""

from __future__ import annotations

import numpy as np
import pytest
from signals import noise

from sep_batch.pipeline import errors
from sep_batch.pipeline.export.forward import LAST_SAMPLES, Forward


def pieces(wave, size):
    return (wave[:, begin : begin + size] for begin in range(0, wave.shape[1], size))


@pytest.mark.parametrize("size", [1, 7, 100, 5000])
@pytest.mark.parametrize("hop", [3, 50, 100, 333])
def test_cuts_equal_slices_of_the_whole_overlapping_or_far_apart(size, hop):
    wave = noise(1000)
    forward = Forward(pieces(wave[:, 20:], size), 20)
    for begin in range(20, 900, hop):
        assert np.array_equal(forward.cut(begin, 100), wave[:, begin : begin + 100])


def test_only_what_is_cut_is_held():
    forward = Forward(pieces(noise(100_000), 64), 0)
    for begin in range(0, 90_000, 500):
        forward.cut(begin, 1000)
        assert sum(piece.shape[1] for piece in forward._held) <= 1000 + 2 * 64


def test_a_wave_that_ends_a_little_early_ends_in_zeros_and_much_too_early_is_a_failure():
    wave = noise(10_000)
    found = Forward(pieces(wave, 999), 0).cut(9_000, 1_000 + LAST_SAMPLES)
    assert np.array_equal(found[:, :1000], wave[:, 9_000:])
    assert not found[:, 1000:].any()
    with pytest.raises(errors.DecodeError, match="ends after 10000 samples, expected at least"):
        Forward(pieces(wave, 999), 0).cut(9_000, 1_001 + LAST_SAMPLES)
