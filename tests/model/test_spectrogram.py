from __future__ import annotations

import itertools
import math

import golden_models
import numpy as np
import pytest
import torch
from signals import noise, snr_db, tone

from sep_batch.model.spec import PRESETS
from sep_batch.model.spectrogram import (
    as_stereo,
    frame_count,
    inverse_stft,
    join_patches,
    patch_count,
    patch_spectrum,
    split_parts,
    split_patches,
    stft,
)

ROUND_TRIP_DB = 100
ENERGY_DB = 0.01
PURE_TONE_DB = 100  # of a tone in the middle of a bin, against what leaks beyond Hann's three bins
SPEC = PRESETS["spleeter:2stems"]
LENGTHS = (1, 4095, 4096, 520_191, 520_192, 520_193)  # 520,192: the first patch is full
TWO_PATCHES = 2 * SPEC.patch_samples - SPEC.frame_length  # 1,044,480: two patches are full


def test_mono_is_doubled_and_of_more_channels_the_first_two_are_kept():
    wave = torch.from_numpy(noise(7, channels=6))
    assert torch.equal(as_stereo(wave[0]), wave[[0, 0]])
    assert torch.equal(as_stereo(wave[:1]), wave[[0, 0]])
    assert torch.equal(as_stereo(wave), wave[:2])


@pytest.mark.parametrize(
    ("samples", "frames", "patches"),
    [(1, 5, 1), (1024, 5, 1), (1025, 6, 1), (4096, 8, 1), (520_191, 512, 1), (520_192, 512, 1), (520_193, 513, 2)],
)
def test_frames_are_counted_as_tensorflow_counts_them(samples, frames, patches):
    assert frame_count(samples, SPEC) == frames == math.ceil((samples + 4096) / 1024)
    assert patch_count(samples, SPEC) == patches


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_wave_survives_its_spectrum_with_its_exact_length(samples):
    wave = noise(samples)
    spectrum = stft(torch.from_numpy(wave), SPEC)
    assert spectrum.shape == (2, frame_count(samples, SPEC), 2049)
    again = inverse_stft(spectrum, samples, SPEC).numpy()
    assert again.shape == (2, samples)
    assert snr_db(wave, again) > ROUND_TRIP_DB


def test_a_frame_is_the_windowed_fourier_transform_of_its_samples():
    wave = noise(20_000)
    spectrum = stft(torch.from_numpy(wave), SPEC).numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(4096) / 4096)
    padded = np.pad(wave.astype(np.float64), ((0, 0), (4096, 8192)))
    for frame in (0, 1, 4, 11, spectrum.shape[1] - 1):
        expected = np.fft.rfft(padded[:, frame * 1024 : frame * 1024 + 4096] * window)
        assert np.allclose(spectrum[:, frame], expected, atol=1e-4)


def test_the_spectrum_of_a_long_wave_does_not_depend_on_the_patches_it_is_computed_in():
    wave = torch.from_numpy(noise(530_000))
    whole = stft(wave, SPEC)
    alone = stft(wave[:, 520_192:], SPEC)  # its frame 4, the first past the padding, is frame 512 of the whole
    assert torch.equal(whole[:, 512:], alone[:, 4:])


def test_a_tone_stays_in_its_bin_and_a_constant_in_the_lowest():
    center = 100 * 44_100 / 4096  # the middle of bin 100
    spectrum = stft(torch.from_numpy(tone(center, 40_960, level=1.0)), SPEC)[0, 4:36].numpy()
    power = np.abs(spectrum.astype(np.complex128)) ** 2
    leaked = power.sum() - power[:, 99:102].sum()
    assert 10 * math.log10(power.sum() / leaked) > PURE_TONE_DB
    assert np.allclose(np.abs(spectrum[:, 100]), 1024, rtol=1e-4)  # level x sum of the window / 2
    constant = np.abs(stft(torch.full((2, 40_960), 0.5), SPEC)[0, 4:36].numpy())
    assert np.allclose(constant[:, 0], 1024, rtol=1e-4)
    assert constant[:, 2:].max() < 1e-2


@pytest.mark.parametrize("wave", [tone(440, 30_000), np.full((2, 30_000), 0.25, np.float32)], ids=["tone", "constant"])
def test_a_signal_is_neither_shifted_nor_faded_at_its_ends(wave):
    again = inverse_stft(stft(torch.from_numpy(wave), SPEC), wave.shape[1], SPEC).numpy()
    for place in (slice(0, 100), slice(15_000, 15_100), slice(-100, None)):
        assert snr_db(wave[:, place], again[:, place]) > ROUND_TRIP_DB


@pytest.mark.parametrize("frames", [1, 511, 512, 513, 1025])
def test_patches_join_to_the_spectrum_they_were_cut_from(frames):
    spectrum = torch.from_numpy(noise(frames * 64).view(np.complex64).reshape(2, frames, 32))
    patches = split_patches(spectrum, SPEC)
    assert patches.shape == (math.ceil(frames / 512), 2, 512, 32)
    assert torch.equal(join_patches(patches, frames), spectrum)
    assert not patches.transpose(0, 1).flatten(1, 2)[:, frames:].any()


def test_a_part_says_what_of_it_counts():
    wave = torch.from_numpy(noise(TWO_PATCHES + 1))
    first, second = split_parts([wave], SPEC, patches_per_part=2)
    assert (first.skip, first.samples, first.last) == (4096, TWO_PATCHES, False)
    assert (second.skip, second.samples, second.last) == (2 * 262_144, 1, True)
    assert first.spectrum.shape == (1024, 2, 1024)
    assert second.spectrum.shape == (512 + 1, 2, 1024)  # the patch before it, and the frame that fills no patch
    assert np.array_equal(second.spectrum[:512], first.spectrum[512:])


def test_the_energy_of_parts_is_that_of_the_whole():
    wave = torch.from_numpy(noise(TWO_PATCHES + 5000))
    spectrum = torch.cat([patch_spectrum(wave, patch, SPEC) for patch in range(3)], dim=1).to(torch.complex128)
    parts = list(split_parts([wave], SPEC, patches_per_part=1))
    for found, expected in (
        (sum(part.energy for part in parts), float(spectrum.abs().square().sum())),
        (sum(part.energy_above_f for part in parts), float(spectrum[..., 1024:].abs().square().sum())),
    ):
        assert abs(10 * math.log10(found / expected)) < ENERGY_DB


def separated_in_parts(separator, wave, patches_per_part):
    parts = split_parts(torch.from_numpy(wave).split(100_000, dim=1), separator.spec, patches_per_part)
    return [golden_models.waves_of(separator, [part])[0] for part in parts]


def assert_parts_join(separator, samples, patches_per_part, parts):
    wave = noise(samples)
    (whole,) = separated_in_parts(separator, wave, patches_per_part=100)
    found = separated_in_parts(separator, wave, patches_per_part)
    assert len(found) == parts
    assert whole.shape == (len(separator.spec.stems), 2, samples)
    ends = list(itertools.accumulate(stems.shape[-1] for stems in found))
    assert ends[-1] == samples
    for stems, end in zip(found, ends, strict=True):
        assert torch.equal(stems, whole[..., end - stems.shape[-1] : end])


@pytest.mark.parametrize(("samples", "patches_per_part"), [(TWO_PATCHES - 1, 1), (TWO_PATCHES, 1), (TWO_PATCHES + 1, 2)])
def test_stems_of_parts_join_to_exactly_the_stems_of_the_whole(samples, patches_per_part):
    assert_parts_join(golden_models.separator("2stems"), samples, patches_per_part, parts=2)


@pytest.mark.parametrize("model", ["2stems", "2stems-16kHz-average"])
@pytest.mark.parametrize(("more", "parts"), [(-1, 3), (0, 3), (1, 4), (3 * 128, 4), (3 * 128 + 1, 4), (16_384 + 100, 5)])
def test_many_parts_join_to_exactly_the_stems_of_the_whole(model, more, parts):
    separator = golden_models.small_separator(model)
    samples = 6 * separator.spec.patch_samples - separator.spec.frame_length + more
    assert_parts_join(separator, samples, 2, parts)
