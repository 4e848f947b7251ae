from __future__ import annotations

import builtins
import math

import numpy as np
import pytest
import torch
from signals import noise, snr_db, tone
from spectra import inverse_stft, stft

from sep_batch.model import spectrogram
from sep_batch.model.spec import PRESETS
from sep_batch.model.spectrogram import as_stereo, frame_count, patch_count

ROUND_TRIP_DB = 100
PURE_TONE_DB = 100  # of a tone in the middle of a bin, against what leaks beyond Hann's three bins
SPEC = PRESETS["spleeter:2stems"]
LENGTHS = (1, 4095, 4096, 520_191, 520_192, 520_193)  # 520,192: the first patch is full


def test_without_torchaudios_compiled_part_the_spectrum_has_the_same_bits(monkeypatch):
    wave = torch.from_numpy(noise(30_000)).unflatten(-1, (3, 10_000)).transpose(0, 1)  # (3, 2, 10,000)
    expected = spectrogram.spectrum_of(wave, SPEC)

    def refused(name, *arguments):
        if name.startswith("torchaudio"):
            raise OSError("libtorchaudio.so: undefined symbol")
        return importer(name, *arguments)

    importer = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refused)
    spectrogram._transform.cache_clear()
    found = spectrogram.spectrum_of(wave, SPEC)
    spectrogram._transform.cache_clear()
    assert found.shape == (3, 2, 6, 2049)
    assert torch.equal(torch.view_as_real(found), torch.view_as_real(expected))


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
