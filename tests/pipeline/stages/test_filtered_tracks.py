"""`--mwf`: tracks filtered over their whole length, in one part or in several, by the bytes of their stems."""

from __future__ import annotations

import dataclasses

import golden_models
import numpy as np
import pyarrow as pa
import pytest
from catalogs import decoded
from signals import RATE_HZ, noise, snr_db, tone

from sep_batch.model import weights
from sep_batch.pipeline import rows, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.rows import value
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import analyze, long_tracks
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

NAME = "2stems"
SPEC = golden_models.small_spec(NAME)
SHORT = 2 * SPEC.patch_samples  # three patches, of which the last holds few samples
LONG = 5 * SPEC.patch_samples - 777
IN_16_BITS_DB = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return weights.convert(*golden_models.files(NAME), SPEC, tmp_path_factory.mktemp("model"))[0]


@pytest.fixture
def work(tmp_path, model):
    settings = Settings(weights_sha256=weights.expected_sha256(model), spec=SPEC, stems=SPEC.stems, mwf=True)
    parts = str(tmp_path / "out" / "_sep" / "parts" / "000001-aaaa")
    return RunContext(settings, out=str(tmp_path / "out"), run="000001-aaaa", parts=parts, scratch=parts)


def wave_of(samples):
    wave = noise(samples, level=0.1)
    wave[1] *= np.linspace(0, 1, samples, dtype=np.float32)
    return wave + 0.1 * tone(700, samples)


def song(tmp_path, samples):
    path = tmp_path / f"{samples}.wav"
    path.write_bytes(encode(wave_of(samples), codecs.CODECS["wav"]["float"], rate_hz=RATE_HZ))
    return path


def parts_of(work, model, path, monkeypatch, *, patches):
    """Take a track through the three stages in parts of so many patches; return the rows that come out."""
    with monkeypatch.context() as patch:
        patch.setattr(analyze, "PATCHES_PER_PART", patches)
        track = pa.Table.from_pylist([{"id": "x", "uri": str(path), "attempts": 0}], schema=rows.TRACK)
        separate, write = Separate(work, str(model), device="cpu"), Write(work)
        return [row for part in Analyze(work)(track) for separated in separate(part) for row in write(separated)]


def finished(work, model, path, monkeypatch, *, patches):
    """Return the row of a track, and the bytes of its stems."""
    parts = parts_of(work, model, path, monkeypatch, patches=patches)
    row = (long_tracks.join(parts, work) if len(parts) > 1 else parts[0]).to_pylist()[0]
    assert (row["status"], row["error"]) == ("ok", None)
    return row, [storage.read(f"{work.out}/{stem['uri']}") for stem in row["stems"]]


def with_settings(work, **changes):
    return dataclasses.replace(work, settings=work.settings.model_copy(update=changes))


@pytest.mark.parametrize("patches", [1, 2])
@pytest.mark.parametrize("samples", [SHORT, LONG])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"format": "wav", "bit_depth": "float"},
        {"bit_depth": "24", "residual": "rest"},
        {"spec": dataclasses.replace(SPEC, mask_extension="average"), "stems": ("accompaniment",)},
        {"sample_rate_hz": 16_000, "mono": True},
        {"format": "mp3", "bitrate": 128_000},
    ],
    ids=lambda changes: "-".join(changes) or "defaults",
)
def test_a_track_in_parts_is_filtered_to_the_bytes_of_one_part(work, model, tmp_path, monkeypatch, changes, samples, patches):
    work, path = with_settings(work, **changes), song(tmp_path, samples)
    whole, expected = finished(work, model, path, monkeypatch, patches=100)
    row, content = finished(work, model, path, monkeypatch, patches=patches)
    assert (whole["parts"], row["parts"] > 1) == (1, True)
    assert content == expected
    for ours, theirs in zip(row["stems"], whole["stems"], strict=True):
        assert {**ours, "lufs": None} == pytest.approx({**theirs, "lufs": None}, abs=1e-4)
    assert row["null_db"] == pytest.approx(whole["null_db"], abs=0.1)
    assert row["above_f_db"] == pytest.approx(whole["above_f_db"], abs=1e-4)


def test_the_stems_are_those_of_the_separator_with_the_filter(work, model, tmp_path, monkeypatch):
    _, content = finished(work, model, song(tmp_path, LONG), monkeypatch, patches=2)
    expected = golden_models.small_separator(NAME).separate(wave_of(LONG), mwf=True)
    for stem, file in zip(SPEC.stems, content, strict=True):
        assert snr_db(expected[stem].numpy(), decoded(file).wave) >= IN_16_BITS_DB
    masked = golden_models.small_separator(NAME).separate(wave_of(LONG))
    assert snr_db(masked["vocals"].numpy(), expected["vocals"].numpy()) < IN_16_BITS_DB


def test_with_a_residual_filtered_stems_add_up_to_the_mix(work, model, tmp_path, monkeypatch):
    work = with_settings(work, residual="rest", bit_depth="24", format="wav")
    for patches in (100, 2):
        _, content = finished(work, model, song(tmp_path, LONG), monkeypatch, patches=patches)
        total = sum(np.round(decoded(file).wave.astype(np.float64) * (1 << 23)) for file in content)
        assert (total == np.round(wave_of(LONG) * np.float32(1 << 23))).all()


@pytest.mark.parametrize("harm", ["shorter", "absent"])
def test_stored_estimates_that_are_not_what_was_stored_fail_the_track_and_give_no_stem(work, model, tmp_path, monkeypatch, harm):
    parts = parts_of(work, model, song(tmp_path, LONG), monkeypatch, patches=2)
    (stored,) = (tmp_path / "out" / "_sep" / "parts").rglob("1.estimates")
    if harm == "shorter":
        stored.write_bytes(stored.read_bytes()[:-400])
    else:
        stored.unlink()
    row = long_tracks.join(parts, work).to_pylist()[0]
    assert (row["status"], row["error_class"], row["transient"], row["stems"]) == ("failed", "write_error", True, None)
    assert not list((tmp_path / "out").glob("stems/**/vocals.flac"))


def test_a_part_with_estimates_has_no_stems_yet(work, model, tmp_path, monkeypatch):
    parts = parts_of(work, model, song(tmp_path, LONG), monkeypatch, patches=2)
    assert [value(part, "stems") for part in parts] == [None] * 3
    assert sorted(path.name for path in (tmp_path / "out" / "_sep" / "parts").rglob("*.*")) == [
        f"{n}.estimates" for n in range(3)
    ]
