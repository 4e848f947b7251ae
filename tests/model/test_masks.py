"""Ratio masks: shares of every bin, that sum to one, and their extension above F."""

from __future__ import annotations

import dataclasses

import golden_models
import numpy as np
import pytest
import torch

from sep_batch.model.masks import ratio_masks

MASK_TOLERANCE = 1e-6


def estimates_of(separator, *, seed=0):
    shape = (1, 2, separator.spec.patch_frames, separator.spec.bins)
    magnitude = np.random.default_rng(seed).exponential(size=shape).astype(np.float32)
    magnitude[..., :10, :] = 0  # silence too
    return separator.estimates(torch.from_numpy(magnitude))


@pytest.mark.parametrize("name", golden_models.SETS)
def test_masks_share_every_bin_out_completely(name):
    separator = golden_models.small_separator(name)
    masks = ratio_masks(estimates_of(separator), separator.spec)
    assert masks.shape == (len(separator.spec.stems), 1, 2, 64, separator.spec.kept_bins)
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1
    assert float((masks[..., : separator.spec.bins].sum(dim=0) - 1).abs().max()) <= MASK_TOLERANCE


def test_a_mask_is_the_ratio_of_the_estimates_raised_to_the_exponent():
    for name, exponent in (("2stems", 2), ("2stems-16kHz-average", 1)):
        separator = golden_models.small_separator(name)
        estimates = torch.tensor([3.0, 1.0]).reshape(2, 1, 1, 1, 1).repeat(1, 1, 2, 64, separator.spec.bins)
        masks = ratio_masks(estimates, separator.spec)
        assert masks[0].unique().tolist() == pytest.approx([3**exponent / (3**exponent + 1)])


def test_in_silence_every_stem_gets_an_equal_share():
    for name in ("2stems", "5stems"):
        separator = golden_models.small_separator(name)
        stems = len(separator.spec.stems)
        masks = ratio_masks(torch.zeros((stems, 1, 2, 64, separator.spec.bins)), separator.spec)
        assert float((masks - 1 / stems).abs().max()) <= MASK_TOLERANCE


def test_an_average_mask_goes_on_above_f_with_the_mean_of_its_row():
    separator = golden_models.small_separator("2stems-16kHz-average")
    masks = ratio_masks(estimates_of(separator), separator.spec)
    below, above = masks[..., :128], masks[..., 128:]
    assert above.shape[-1] == 257 - 128
    assert float((above - below.mean(dim=-1, keepdim=True)).abs().max()) <= MASK_TOLERANCE


@pytest.mark.parametrize("name", golden_models.SETS)
def test_the_extension_changes_no_bit_of_the_masks_below_f(name):
    separator = golden_models.small_separator(name)
    zeros, average = (dataclasses.replace(separator.spec, mask_extension=rule) for rule in ("zeros", "average"))
    below = ratio_masks(estimates_of(separator), zeros)
    extended = ratio_masks(estimates_of(separator), average)
    assert torch.equal(below, extended[..., : separator.spec.bins])
    assert float((extended.sum(dim=0) - 1).abs().max()) <= MASK_TOLERANCE
