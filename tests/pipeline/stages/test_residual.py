"""`--residual`: stems and residual add up to the mix, bit for bit in integers, whole and in parts, for every kind of source."""

from __future__ import annotations

import dataclasses
import itertools

import golden_models
import numpy as np
import pyarrow as pa
import pytest
import torch
from catalogs import decoded
from signals import noise, snr_db, tone

from sep_batch.model import weights
from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.rows import TRACK, value
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import analyze, long_tracks, stems
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

SPEC = golden_models.small_spec("2stems")
STEMS = (*SPEC.stems, "rest")
RATE_HZ, SAMPLES = SPEC.sample_rate_hz, 3 * SPEC.patch_samples // 2  # two patches
SOURCES = {  # of all kinds: codec, sample rate, channels, gain
    "16 bits": ("wav", "16", 44_100, 2, 1.0),
    "24 bits": ("flac", "24", 44_100, 2, 1.0),
    "floats": ("wav", "float", 44_100, 2, 1.0),
    "mono": ("flac", "16", 44_100, 1, 1.0),
    "48 kHz": ("wav", "16", 48_000, 2, 1.0),
    "8 kHz": ("wav", "16", 8_000, 1, 1.0),
    "96 kHz": ("flac", "24", 96_000, 2, 1.0),
    "lossy": ("mp3", "", 44_100, 2, 1.0),
    "Opus": ("opus", "", 48_000, 2, 1.0),
    "over full scale": ("wav", "float", 44_100, 2, 3.0),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return weights.convert(*golden_models.files("2stems"), SPEC, tmp_path_factory.mktemp("model"))[0]


@pytest.fixture
def separated(tmp_path, model, monkeypatch):
    """A function that takes a song through the stages: its row, the waves of its stems, and the mix as it was decoded."""
    numbers = itertools.count()

    def run(wave, kind="16 bits", *, patches=20, stft="cpu", **settings):
        number = next(numbers)
        codec, depth, rate_hz, channels, gain = SOURCES[kind]
        path, out = tmp_path / f"{number}.{codec}", str(tmp_path / f"out {number}")
        path.write_bytes(encode(gain * wave[:channels], codecs.CODECS[codec][depth], rate_hz=rate_hz))
        monkeypatch.setattr(analyze, "PATCHES_PER_PART", patches)
        values = {"stems": SPEC.stems, "residual": "rest"} | settings
        own = Settings(weights_sha256=weights.expected_sha256(model), spec=SPEC, **values)
        work = RunContext(own, out=out, run="000001-aaaa", parts=f"{out}/parts", scratch=f"{out}/parts", stft=stft)
        track = pa.Table.from_pylist([{"id": "x", "uri": str(path), "attempts": 0}], schema=TRACK)
        written = pa.concat_tables(
            Write(work)(pa.concat_tables(Separate(work, str(model), device="cpu")(pa.concat_tables(Analyze(work)(track)))))
        )
        parts = [written.slice(place, 1) for place in range(len(written))]
        row = long_tracks.join(parts, work) if len(parts) > 1 else parts[0]
        assert value(row, "status") == "ok", value(row, "error")
        with path.open("rb") as source:
            pieces, _ = audio.decode(source, rate_hz=RATE_HZ)
            mix = np.concatenate(list(pieces), axis=1)
        (content,) = row.to_pylist()
        waves = {stem["stem"]: decoded(storage.read(f"{out}/{stem['uri']}")).wave for stem in content["stems"]}
        return content, waves, np.repeat(mix, 2, axis=0)[:2] if len(mix) == 1 else mix, len(parts)

    return run


def rounded(wave, bits):
    full = float(1 << (bits - 1))
    return np.clip(np.round(np.float32(wave) * np.float32(full)), -full, full - 1)


def whole_numbers(wave, bits):
    return np.round(wave.astype(np.float64) * (1 << (bits - 1)))


@pytest.mark.parametrize("patches", [20, 1], ids=["whole", "in parts"])
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(("format", "depth"), [("flac", "16"), ("wav", "24")])
def test_stems_and_residual_add_up_to_the_rounded_mix_bit_for_bit(separated, kind, patches, format, depth):
    row, waves, mix, parts = separated(0.3 * noise(SAMPLES), kind, patches=patches, format=format, bit_depth=depth)
    assert (tuple(waves), parts > 1) == (STEMS, patches == 1 and mix.shape[1] > SPEC.patch_samples)
    bits = int(depth)
    total = sum(whole_numbers(wave, bits) for wave in waves.values())
    assert (total == rounded(mix, bits)).all()
    assert row["stems"][-1]["clipped_samples"] == 0


@pytest.mark.parametrize("depth", ["16", "24"])
def test_a_residual_beyond_full_scale_is_clipped_and_counted(depth):
    own = Settings(weights_sha256="f" * 64, spec=SPEC, stems=SPEC.stems, residual="rest", format="wav", bit_depth=depth)
    mix, wave = np.zeros((4, 2), np.float32), np.zeros((2, 2, 4), np.float32)
    mix[:2], wave[:, :, :2] = 0.9, -0.5  # 0.9 + 0.5 + 0.5
    mix[2], wave[0, :, 2] = -0.25, 0.5
    part = stems.Stems(own, 4)
    part.add(torch.from_numpy(wave), torch.from_numpy(mix.T))
    full = 1 << (int(depth) - 1)
    whole = part.frames[-1].astype(np.int64) >> (0 if depth == "16" else 8)
    assert whole.tolist() == [[full - 1] * 2] * 2 + [[-3 * full // 4] * 2, [0, 0]]
    assert [stem["clipped_samples"] for stem in part.measured()] == [0, 0, 4]


def test_in_float_stems_and_residual_are_the_mix_within_rounding(separated):
    _, waves, mix, _ = separated(0.3 * noise(SAMPLES), "floats", format="wav", bit_depth="float")
    terms = np.stack([mix, *waves.values()])
    total = sum(wave.astype(np.float64) for wave in waves.values())
    assert (np.abs(total - mix) <= 2.0**-23 * np.abs(terms).max(axis=0)).all()


def test_the_residual_of_one_stem_holds_all_the_rest_and_what_is_above_the_models_range(separated):
    high = tone(15_000, SAMPLES)
    row, waves, mix, _ = separated(0.3 * high, stems=SPEC.stems[:1])
    assert tuple(waves) == (SPEC.stems[0], "rest")
    inside = slice(SPEC.frame_length, -SPEC.frame_length)  # the tone's ends are clicks of all frequencies
    assert np.abs(waves["rest"] - mix)[:, inside].max() < 2e-4  # no stem has energy above F
    assert row["stems"][-1]["rms_dbfs"] == pytest.approx(10 * np.log10(np.square(mix).mean()), abs=0.05)


def test_the_other_stems_and_their_columns_are_those_of_a_run_without_a_residual(separated):
    wave = 0.3 * noise(SAMPLES)
    with_residual, _, _, _ = separated(wave)
    without, _, _, _ = separated(wave, residual=None)
    assert with_residual["stems"][:-1] == without["stems"]


def test_the_stft_on_either_side_gives_the_same_residual(separated):
    wave = 0.3 * noise(SAMPLES)
    assert separated(wave, stft="gpu")[0]["stems"] == separated(wave)[0]["stems"]


@pytest.mark.parametrize("patches", [20, 1], ids=["whole", "in parts"])
@pytest.mark.parametrize("kind", ["16 bits", "mono", "48 kHz", "over full scale"])
def test_the_written_mix_is_the_decoded_mix_whatever_else_is_written(separated, kind, patches):
    for settings in ({"residual": None}, {"residual": "rest", "bit_depth": "24"}, {"mwf": True, "stems": SPEC.stems[:1]}):
        row, waves, mix, _ = separated(0.3 * noise(SAMPLES), kind, patches=patches, write_mix=True, **settings)
        bits = int(settings.get("bit_depth", "16"))
        assert (whole_numbers(waves["mix"], bits) == rounded(mix, bits)).all()
        assert row["stems"][-1]["peak_dbfs"] == pytest.approx(20 * np.log10(np.abs(mix).max()), abs=0.01)
        assert (row["stems"][-1]["clipped_samples"] > 0) == (np.abs(mix).max() > 1)


def test_a_lossy_mix_is_written_as_the_stems_are(separated):
    _, waves, mix, _ = separated(0.3 * tone(440, SAMPLES), residual=None, write_mix=True, format="mp3", bitrate=320_000)
    assert snr_db(mix, waves["mix"][:, : mix.shape[1]]) > 30


def test_settings_without_a_residual_have_the_checksum_of_before():
    own = Settings(weights_sha256="f" * 64, spec=SPEC, stems=SPEC.stems)
    assert "residual" not in own.canonical()
    assert own.model_copy(update={"residual": "rest"}).sha256 != own.sha256


def test_a_context_with_a_residual_has_parts_that_are_waves(tmp_path):
    own = Settings(weights_sha256="f" * 64, spec=SPEC, stems=SPEC.stems)
    work = RunContext(own, out="o", run="r", parts="p", scratch="s")
    changed = dataclasses.replace(work, settings=own.model_copy(update={"residual": "rest"}))
    assert (work.has_waves, changed.has_waves) == (False, True)
