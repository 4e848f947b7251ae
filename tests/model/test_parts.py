from __future__ import annotations

import itertools
import math

import golden_models
import numpy as np
import pytest
import torch
from signals import noise

from sep_batch.model.parts import split_parts
from sep_batch.model.spec import PRESETS
from sep_batch.model.spectrogram import patch_wave, spectrum_of

ENERGY_DB = 0.01
SPEC = PRESETS["spleeter:2stems"]
TWO_PATCHES = 2 * SPEC.patch_samples - SPEC.frame_length  # 1,044,480: two patches are full


def test_a_part_says_what_of_it_counts():
    wave = torch.from_numpy(noise(TWO_PATCHES + 1))
    first, second = split_parts([wave], SPEC, patches_per_part=2)
    assert (first.skip, first.samples, first.last) == (4096, TWO_PATCHES, False)
    assert (second.skip, second.samples, second.last) == (2 * 262_144, 1, True)
    assert first.payload.shape == (1024, 2, 1024)
    assert second.payload.shape == (512 + 1, 2, 1024)  # the patch before it, and the frame that fills no patch
    assert np.array_equal(second.payload[:512], first.payload[512:])


def test_the_energy_of_parts_is_that_of_the_whole():
    wave = torch.from_numpy(noise(TWO_PATCHES + 5000))
    spectrum = torch.cat([spectrum_of(patch_wave(wave, patch, SPEC), SPEC) for patch in range(3)], dim=1).to(torch.complex128)
    parts = list(split_parts([wave], SPEC, patches_per_part=1))
    for found, expected in (
        (sum(part.energy for part in parts), float(spectrum.abs().square().sum())),
        (sum(part.energy_above_f for part in parts), float(spectrum[..., 1024:].abs().square().sum())),
    ):
        assert abs(10 * math.log10(found / expected)) < ENERGY_DB


def separated_in_parts(separator, wave, patches_per_part, *, as_waves=False):
    blocks = torch.from_numpy(wave).split(100_000, dim=1)
    parts = split_parts(blocks, separator.spec, patches_per_part, as_waves=as_waves)
    return [golden_models.waves_of(separator, [part])[0] for part in parts]


def assert_parts_join(separator, samples, patches_per_part, parts, *, as_waves=False):
    wave = noise(samples)
    (whole,) = separated_in_parts(separator, wave, patches_per_part=100)
    found = separated_in_parts(separator, wave, patches_per_part, as_waves=as_waves)
    assert len(found) == parts
    assert whole.shape == (len(separator.spec.stems), 2, samples)
    ends = list(itertools.accumulate(stems.shape[-1] for stems in found))
    assert ends[-1] == samples
    for stems, end in zip(found, ends, strict=True):
        assert torch.equal(stems, whole[..., end - stems.shape[-1] : end])


@pytest.mark.parametrize(("samples", "patches_per_part"), [(TWO_PATCHES - 1, 1), (TWO_PATCHES, 1), (TWO_PATCHES + 1, 2)])
def test_stems_of_parts_join_to_exactly_the_stems_of_the_whole(samples, patches_per_part):
    assert_parts_join(golden_models.separator("2stems"), samples, patches_per_part, parts=2)


@pytest.mark.parametrize("as_waves", [False, True], ids=["spectra", "waves"])
@pytest.mark.parametrize("model", ["2stems", "2stems-16kHz-average"])
@pytest.mark.parametrize(("more", "parts"), [(-1, 3), (0, 3), (1, 4), (3 * 128, 4), (3 * 128 + 1, 4), (16_384 + 100, 5)])
def test_many_parts_join_to_exactly_the_stems_of_the_whole(model, more, parts, as_waves):
    separator = golden_models.small_separator(model)
    samples = 6 * separator.spec.patch_samples - separator.spec.frame_length + more
    assert_parts_join(separator, samples, 2, parts, as_waves=as_waves)


@pytest.mark.parametrize("samples", [1, 4096, 520_192, 520_193, TWO_PATCHES + 5000])
def test_stems_of_a_wave_are_bit_for_bit_those_of_its_spectrum(samples):
    separator, wave = golden_models.separator("2stems"), noise(samples)
    of_spectra = separated_in_parts(separator, wave, 2)
    of_waves = separated_in_parts(separator, wave, 2, as_waves=True)
    assert all(torch.equal(found, expected) for found, expected in zip(of_waves, of_spectra, strict=True))


def test_a_part_that_travels_as_its_wave_is_half_as_big():
    wave = torch.from_numpy(noise(10 * SPEC.patch_samples))
    (as_spectrum,), (as_wave,) = (list(split_parts([wave], SPEC, 20, as_waves=waves)) for waves in (False, True))
    assert 1.9 < as_spectrum.payload.nbytes / as_wave.payload.nbytes < 2.0


def rounded(wave):
    return (np.rint(wave * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


def test_a_wave_of_16_bits_travels_as_int16_with_the_stems_that_it_has_as_float32():
    separator = golden_models.small_separator("2stems")
    wave = rounded(noise(5 * separator.spec.patch_samples))
    wave[:, :2] = -1, 32767 / 32768
    parts = list(split_parts([torch.from_numpy(wave)], separator.spec, 2, as_waves=True))
    assert [part.payload.dtype for part in parts] == [np.int16] * 3
    as_float = [part._replace(payload=part.payload.astype(np.float32) / 32768) for part in parts]
    found, expected = (list(separator.separate_parts(each)) for each in (parts, as_float))
    assert all(torch.equal(piece.waves, other.waves) for piece, other in zip(found, expected, strict=True))
    assert [piece[2:] for piece in found] == [piece[2:] for piece in expected]


@pytest.mark.parametrize("place", [0, 0.3, 0.7])
def test_a_wave_that_16_bits_do_not_hold_travels_as_float32_from_the_part_on_where_they_do_not(place):
    spec = golden_models.small_spec("2stems")
    wave = rounded(noise(5 * spec.patch_samples))
    wave[0, int(place * wave.shape[1])] = 1.0  # full scale, one more than the largest number
    parts = list(split_parts([torch.from_numpy(wave)], spec, 2, as_waves=True))
    assert [part.payload.dtype for part in parts] == ([np.int16, np.float32, np.float32] if place == 0.7 else [np.float32] * 3)
    separator = golden_models.small_separator("2stems")
    waves = [piece.waves for piece in separator.separate_parts(parts)]
    assert torch.equal(torch.cat(waves, dim=-1), torch.stack(list(separator.separate(wave).values())))


@pytest.mark.parametrize("batch", [1, 3])
def test_the_energy_of_parts_that_travel_as_waves_is_that_of_their_spectra(batch):
    separator = golden_models.small_separator("2stems", batch=batch)
    wave = noise(5 * separator.spec.patch_samples + 700)
    expected, parts = (list(split_parts([torch.from_numpy(wave)], separator.spec, 2, as_waves=waves)) for waves in (False, True))
    pieces = list(separator.separate_parts(parts))
    assert len(parts) == 3
    for place, part in enumerate(expected):
        mine = [piece for piece in pieces if piece.part_index == place]
        assert sum(piece.energy for piece in mine) == pytest.approx(part.energy, rel=1e-5)
        assert sum(piece.energy_above_f for piece in mine) == pytest.approx(part.energy_above_f, rel=1e-5)
