"""What is measured of a stem, and how it is rounded and written."""

from __future__ import annotations

import io
import math

import ebur128
import golden_models
import numpy as np
import pytest
import torch
from catalogs import decoded
from signals import RATE_HZ, frequency_hz, level_db, noise, resample, tone

from sep_batch.pipeline.audio import codecs, loudness
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import stems

SPEC = golden_models.spec("2stems")
LEVEL_DB = 1e-4
LUFS = 0.1
FORMATS = [("flac", "16"), ("flac", "24"), ("wav", "16"), ("wav", "24"), ("wav", "float")]
FORMATS += [(format, "16") for format in codecs.CODECS if codecs.is_lossy(format)]


def settings(format="wav", depth="float", names=("vocals",), **changes):
    given = {"format": format, "bit_depth": depth, "bitrate": 128_000 if codecs.is_lossy(format) else None}
    return Settings(weights_sha256="0" * 64, spec=SPEC, stems=names, **given | changes)


def taken(waves, asked, *, piece=10_000):
    """Give (stems, channels, samples) to `Stems`, piece by piece."""
    found = stems.Stems(asked, waves.shape[-1])
    for begin in range(0, waves.shape[-1], piece):
        assert not found.is_complete
        found.add(torch.from_numpy(waves[..., begin : begin + piece]))
    assert found.is_complete
    return found


def measured(wave):
    found = taken(wave[None], settings())
    return found.measured()[0] | {"lufs": lufs_of(found, wave.shape[1])}


def lufs_of(found, samples):
    return loudness.integrated(found.k_weighted.rows()[0], samples, RATE_HZ)


@pytest.mark.parametrize(("format", "depth"), FORMATS)
def test_stems_are_rounded_and_written_as_a_whole_wave_is(format, depth):
    waves = np.stack([noise(30_000, level=0.5, seed=1), noise(30_000, level=1e-3, seed=2)])
    asked = settings(format, depth, SPEC.stems)
    found = taken(waves, asked)
    for frames, wave in zip(found.frames, waves, strict=True):
        assert np.array_equal(frames, codecs.raw(wave, asked.form))
        content = io.BytesIO()
        stems.write(content, [frames[:777], frames[777:]], asked, samples=len(frames))
        expected = resample(wave, RATE_HZ, asked.written_rate_hz)
        assert content.getvalue() == encode(expected, asked.codec, rate_hz=asked.written_rate_hz, bitrate=asked.bitrate)


def test_a_wave_comes_back_from_what_its_codec_takes():
    wave = noise(5000)
    for format, depth in FORMATS:
        codec = settings(format, depth).codec
        step = 0 if codec.dtype.kind == "f" else 2.0 ** (1 - codec.bits)
        assert np.abs(codecs.wave_of(codecs.raw(wave, codec)) - wave).max() <= step / 2


@pytest.mark.parametrize(("format", "depth"), [("flac", "16"), ("wav", "24"), ("mp3", "16"), ("opus", "16"), ("wma", "16")])
@pytest.mark.parametrize("mono", [False, True])
def test_stems_are_written_at_another_rate_and_as_one_channel(format, depth, mono):
    asked, samples = settings(format, depth, sample_rate_hz=16_000, mono=mono), 2 * RATE_HZ + 7
    wave = np.concatenate([tone(500, samples, channels=1, level=0.4), tone(1500, samples, channels=1, level=0.2)])
    found = taken(wave[None], asked)
    assert (found.frames.dtype, asked.form.dtype) == (np.float32, np.float32)
    content = io.BytesIO()
    stems.write(content, [found.frames[0]], asked, samples=samples)
    read = decoded(content.getvalue(), rate_hz=16_000)
    assert read.channels == (1 if mono else 2)
    assert read.rate_hz == (48_000 if format == "opus" else 16_000)
    assert 0 <= read.wave.shape[1] - asked.written_frames(samples) <= asked.codec.longer
    inside = read.wave[:, 2000:-2000]
    if mono:
        assert level_db(inside[0]) == pytest.approx(level_db(wave.mean(axis=0)), abs=0.5)  # LAME takes 0.45 dB off
    assert frequency_hz(inside[0], 16_000) == pytest.approx(500, abs=0.1)
    assert frequency_hz(inside[1], 16_000) == pytest.approx(500 if mono else 1500, abs=0.1)


@pytest.mark.parametrize("samples", [1, 100, codecs.BLOCK])
def test_one_channel_at_the_models_rate_is_the_mean_of_both_bit_for_bit(samples):
    wave, asked = noise(samples), settings(mono=True)
    content = io.BytesIO()
    stems.write(content, [taken(wave[None], asked).frames[0]], asked, samples=samples)
    read = decoded(content.getvalue())
    assert (read.channels, np.array_equal(read.wave[0], wave.mean(axis=0))) == (1, True)


def test_what_is_measured_of_a_stem_is_of_what_was_separated_whatever_is_written():
    wave = tone(12_000, RATE_HZ, level=0.5)
    plain, reshaped = settings(), settings(sample_rate_hz=16_000, mono=True)
    told = []
    for asked in (plain, reshaped):
        found = taken(wave[None], asked)
        told.append(found.measured()[0] | {"lufs": lufs_of(found, RATE_HZ)})
    assert told[0] == told[1]


def test_a_wav_of_4_gib_says_rf64_and_a_smaller_one_riff():
    frames = noise(1000).T.copy()
    for samples, magic in ((1000, b"RIFF"), (1 << 30, b"RF64")):
        content = io.BytesIO()
        stems.write(content, [frames], settings(), samples=samples)
        assert content.getvalue()[:4] == magic
        assert np.array_equal(decoded(content.getvalue()).wave, frames.T)


def test_levels_of_parts_are_those_of_the_whole():
    waves = [noise(1000, level=0.5, seed=1), noise(3000, level=0.01, seed=2), np.zeros((2, 500), np.float32)]
    parts = [taken(wave[None], settings()).measured()[0] for wave in waves]
    whole = np.concatenate(waves, axis=1)
    assert stems.joined(parts) == pytest.approx(taken(whole[None], settings()).measured()[0], abs=LEVEL_DB)
    assert stems.joined(parts)["rms_dbfs"] == pytest.approx(level_db(whole), abs=LEVEL_DB)
    silent = stems.joined(parts[2:])
    assert (silent["peak_dbfs"], silent["rms_dbfs"], silent["clipped_samples"]) == (None, None, 0)


def test_levels_of_a_sine_are_those_of_a_sine():
    found = measured(tone(441, RATE_HZ, level=0.5))
    assert found["peak_dbfs"] == pytest.approx(20 * math.log10(0.5), abs=0.001)
    assert found["rms_dbfs"] - found["peak_dbfs"] == pytest.approx(-3.0103, abs=0.001)
    assert found["clipped_samples"] == 0


def test_the_peak_is_found_on_either_side_of_zero():
    wave = np.zeros((2, RATE_HZ), np.float32)
    wave[1, 7] = -0.25
    assert measured(wave)["peak_dbfs"] == pytest.approx(20 * math.log10(0.25))


@pytest.mark.parametrize(("level", "lufs"), [(1.0, 0.0), (0.1, -20.0), (0.01, -40.0)])
def test_loudness_is_that_of_bs_1770(level, lufs):
    """BS.1770 gives a full-scale 997 Hz sine in one channel -3.01; in both, twice the power: 0.0."""
    assert measured(tone(997, 3 * RATE_HZ, level=level))["lufs"] == pytest.approx(lufs, abs=LUFS)


def test_loudness_of_one_channel_is_half_the_power():
    wave = tone(997, 3 * RATE_HZ, level=1.0)
    wave[1] = 0
    assert measured(wave)["lufs"] == pytest.approx(-3.01, abs=LUFS)


def test_loudness_is_that_of_the_stem_as_integers_clip_it():
    wave = tone(997, 3 * RATE_HZ, level=4.0)
    clipped, kept = (lufs_of(taken(wave[None], settings(*form)), wave.shape[1]) for form in (("wav", "16"), ("wav", "float")))
    assert clipped == pytest.approx(ebur128.lufs(wave.clip(-1, 1), RATE_HZ), abs=0.05)
    assert kept == pytest.approx(12.04, abs=LUFS)


def test_silence_has_no_level():
    found = measured(np.zeros((2, RATE_HZ), np.float32))
    assert [found[name] for name in ("peak_dbfs", "rms_dbfs", "lufs", "clipped_samples")] == [None, None, None, 0]


@pytest.mark.parametrize(("samples", "known"), [(1, False), (17_639, False), (17_640, True), (17_641, True), (30_000, True)])
def test_loudness_is_not_known_of_less_than_one_block_of_400_ms(samples, known):
    found = measured(tone(997, samples))
    assert (found["lufs"] is not None) == known
    assert found["peak_dbfs"] is not None or samples == 1


def test_what_is_quieter_than_the_meters_gate_has_a_level_and_no_loudness():
    found = measured(tone(997, RATE_HZ, level=1e-5))
    assert found["lufs"] is None
    assert found["peak_dbfs"] == pytest.approx(-100, abs=0.01)


def test_clipped_samples_are_those_that_integers_cannot_hold():
    wave = np.zeros((2, 1000), np.float32)
    wave[0, :4] = [1.0, -1.0, 1.5, -1.5]
    wave[1, :2] = [np.nextafter(np.float32(1), 0), 2.0]
    assert measured(wave)["clipped_samples"] == 4


def test_what_is_clipped_at_the_bottom_only_is_counted_too():
    wave = np.zeros((2, 1000), np.float32)
    wave[0, 3] = -1.25
    assert measured(wave)["clipped_samples"] == 1
