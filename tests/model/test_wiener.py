"""The multichannel Wiener filter: equal to norbert's, on the same estimates, whatever the patches, the level and the channels."""

from __future__ import annotations

import dataclasses

import golden_models
import norbert
import numpy as np
import pytest
import torch
from signals import noise, snr_db, tone
from spectra import inverse_stft

from sep_batch.model.masks import ratio_masks
from sep_batch.model.parts import split_parts
from sep_batch.model.spectrogram import spectrum_of
from sep_batch.model.wiener import EPSILON, EstimatedPatch, filtered

NORBERT_DB = 100  # norbert in double precision, and this, which adds up in double precision
AS_SPLEETER_CALLS_IT_DB = 60  # norbert in complex64
PATCHES = 3


def song(spec, *, level=0.1):
    """A wave of some patches: noise on one side, tones in the middle and on the other side."""
    samples = PATCHES * spec.patch_samples - spec.frame_length - 77
    wave = level * noise(samples)
    wave[0] += level * tone(1_000, samples)[0]
    wave[1] = level * tone(1_000, samples)[0] + 0.3 * level * noise(samples, seed=3)[1]
    return wave


def estimated(separator, wave):
    """The patches of a wave with their estimates."""
    (part,) = split_parts([torch.from_numpy(wave)], separator.spec, 20, as_waves=True)
    return [piece.patch for piece in separator.estimate_parts([part])]


def waves_of_filtered(patches, samples, spec, **options):
    return torch.cat([piece.waves for piece in filtered(patches, samples, spec, **options)], dim=-1).numpy()


def by_norbert(patches, samples, spec, *, double):
    """Filter with norbert, which takes (frames, bins, channels, stems), and nothing above F."""
    spectra = torch.cat([spectrum_of(patch.wave, spec) for patch in patches], dim=1)[..., : spec.bins]
    estimates = torch.cat([patch.estimates for patch in patches], dim=2)
    v, x = estimates.permute(2, 3, 1, 0).numpy(), spectra.permute(1, 2, 0).numpy().copy()
    result = norbert.wiener(v.astype(np.float64), x.astype(np.complex128), eps=EPSILON) if double else norbert.wiener(v, x)
    stems = torch.from_numpy(result.astype(np.complex64)).permute(3, 2, 0, 1)
    return np.stack([inverse_stft(stem, samples, spec).numpy() for stem in stems])


@pytest.mark.parametrize("name", golden_models.SETS)
@pytest.mark.parametrize("level", [0.003, 0.1, 3.0])  # norbert turns loud mixes down
def test_the_filter_is_norberts(name, level):
    separator = golden_models.small_separator(name)
    spec = dataclasses.replace(separator.spec, mask_extension="zeros")
    wave = song(spec, level=level)
    patches = estimated(separator, wave)
    ours = waves_of_filtered(patches, wave.shape[1], spec)
    assert ours.shape == (len(spec.stems), *wave.shape)
    for double, expected_db in ((True, NORBERT_DB), (False, AS_SPLEETER_CALLS_IT_DB)):
        theirs = by_norbert(patches, wave.shape[1], spec, double=double)
        for stem in range(len(spec.stems)):
            assert snr_db(theirs[stem], ours[stem]) >= expected_db


def test_a_mono_mix_is_filtered_as_norbert_does_in_double_precision():
    separator = golden_models.small_separator("2stems")
    wave = np.repeat(song(separator.spec)[:1], 2, axis=0)
    patches = estimated(separator, wave)
    ours = waves_of_filtered(patches, wave.shape[1], separator.spec)
    assert snr_db(by_norbert(patches, wave.shape[1], separator.spec, double=True), ours) >= NORBERT_DB


def test_silence_stays_silence_and_every_value_is_a_number():
    separator = golden_models.small_separator("5stems")
    wave = song(separator.spec)
    wave[:, separator.spec.patch_samples :] = 0
    for own in (wave, 0 * wave):
        result = waves_of_filtered(estimated(separator, own), own.shape[1], separator.spec)
        assert np.isfinite(result).all()
        assert not result[..., 2 * separator.spec.patch_samples :].any()


def test_the_mix_comes_with_the_stems_sample_by_sample():
    separator = golden_models.small_separator("2stems")
    wave = song(separator.spec)
    pieces = list(filtered(estimated(separator, wave), wave.shape[1], separator.spec))
    assert (torch.cat([piece.mix for piece in pieces], dim=-1).numpy() == wave).all()
    assert [piece.mix.shape for piece in pieces] == [piece.waves.shape[1:] for piece in pieces]


def test_chosen_stems_are_those_of_all_in_their_order():
    separator = golden_models.small_separator("4stems")
    wave = song(separator.spec)
    patches, samples = estimated(separator, wave), wave.shape[1]
    every = waves_of_filtered(patches, samples, separator.spec)
    chosen = waves_of_filtered(patches, samples, separator.spec, stems=["bass", "vocals"])
    assert (chosen == every[[separator.spec.stems.index("bass"), 0]]).all()


def test_bins_from_f_up_are_those_of_the_ratio_masks():
    separator = golden_models.small_separator("2stems-16kHz-average")
    spec, wave = separator.spec, song(separator.spec)
    patches = estimated(separator, wave)
    below = waves_of_filtered(patches, wave.shape[1], dataclasses.replace(spec, mask_extension="zeros"))
    above = waves_of_filtered(patches, wave.shape[1], spec) - below
    for number in range(len(spec.stems)):
        masked = []
        for patch in patches:
            spectrum = ratio_masks(patch.estimates.clone(), spec)[number] * spectrum_of(patch.wave, spec)
            spectrum[..., : spec.bins] = 0
            masked.append(spectrum)
        expected = inverse_stft(torch.cat(masked, dim=1), wave.shape[1], spec).numpy()
        assert snr_db(expected, above[number]) >= NORBERT_DB


def test_separate_filters_a_wave_of_any_kind_as_the_patches_are():
    separator = golden_models.small_separator("2stems")
    wave = song(separator.spec)
    result = separator.separate(wave, mwf=True)
    expected = waves_of_filtered(estimated(separator, wave), wave.shape[1], separator.spec)
    assert (torch.stack(list(result.values())).numpy() == expected).all()
    assert tuple(result) == separator.spec.stems
    mono = separator.separate(wave[0], mwf=True)["vocals"]
    assert mono.shape == wave.shape


def test_an_estimated_patch_is_a_wave_of_all_samples_that_its_frames_cover():
    separator = golden_models.small_separator("2stems")
    spec = separator.spec
    for patch in estimated(separator, song(spec)):
        assert isinstance(patch, EstimatedPatch)
        assert patch.wave.shape == (2, spec.patch_wave_samples)
        assert patch.estimates.shape == (2, 2, spec.patch_frames, spec.bins)
