"""Long tracks: cut into parts, stored, gathered in any order, joined to what one part would have given."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random

import golden_models
import numpy as np
import pyarrow as pa
import pytest
from catalogs import decoded
from signals import RATE_HZ, noise

from sep_batch.model import weights
from sep_batch.pipeline import rows, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import analyze, long_tracks
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART, Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.stages.write import Write

NAME = "2stems"
SPEC = golden_models.small_spec(NAME)
PART_SAMPLES = PATCHES_PER_PART * SPEC.patch_samples
LONG = 2 * PART_SAMPLES + 12_345  # three parts
LEVEL_DB = 1e-4
NULL_DB = 0.1
ANALYSED = ("levels_dbfs", "active_ratio", "active_regions", "width")
LUFS = 0.02  # loudness is measured after rounding where a track is joined


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return weights.convert(*golden_models.files(NAME), SPEC, tmp_path_factory.mktemp("model"))[0]


@pytest.fixture
def work(tmp_path, model):
    settings = Settings(weights_sha256=weights.expected_sha256(model), spec=SPEC, stems=SPEC.stems)
    parts = str(tmp_path / "out" / "_sep" / "parts" / "000001-aaaa")
    return RunContext(settings, out=str(tmp_path / "out"), run="000001-aaaa", parts=parts, scratch=parts)


def with_settings(work, **changes):
    return dataclasses.replace(work, settings=work.settings.model_copy(update=changes))


def song(tmp_path, samples=LONG, *, name="long.wav"):
    path, wave = tmp_path / name, noise(samples, level=0.2)
    wave[:, np.arange(samples) // 30_000 % 2 == 1] = 0
    wave[1] *= np.linspace(0, 1, samples, dtype=np.float32)
    path.write_bytes(encode(wave, codecs.CODECS["wav"]["float"], rate_hz=RATE_HZ))
    return path


def written(work, model, path, *, id="x"):
    """Take a track through the three stages, and return the rows that come out."""
    track = pa.Table.from_pylist([{"id": id, "uri": str(path), "attempts": 0}], schema=rows.TRACK)
    separate, write = Separate(work, str(model), device="cpu"), Write(work)
    return [row for part in Analyze(work)(track) for separated in separate(part) for row in write(separated)]


def gathered(parts):
    """Have parts gathered in this order; return the finished rows and the whole tracks."""
    gathering = long_tracks.Gathering()
    taken = [gathering.take(row) for row in parts]
    return [row for finished, _ in taken for row in finished], [parts for _, whole in taken for parts in whole]


def joined(work, model, path):
    _, (parts,) = gathered(written(work, model, path))
    return long_tracks.join(parts, work).to_pylist()[0]


def in_one_part(work, model, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(analyze, "PATCHES_PER_PART", 1000)
        (row,) = written(work, model, path)
        return row.to_pylist()[0]


def test_a_track_whose_parts_travel_as_waves_gives_the_bytes_and_the_row_of_one_whose_spectra_do(work, model, tmp_path):
    path = song(tmp_path)
    of_spectra, of_waves = (joined(dataclasses.replace(work, stft=stft), model, path) for stft in ("cpu", "gpu"))
    assert of_waves["stems"] == of_spectra["stems"]
    assert of_waves["above_f_db"] == pytest.approx(of_spectra["above_f_db"], abs=0.001)


@pytest.mark.parametrize(
    ("changes", "samples"),
    [
        ({}, PART_SAMPLES + 1),
        ({}, LONG),
        ({"bit_depth": "24"}, LONG),
        ({"format": "wav"}, LONG),
        ({"format": "wav", "bit_depth": "float"}, LONG),
        *(({"format": format, "bitrate": 128_000}, LONG) for format in ("mp3", "m4a", "opus", "ogg", "wma")),
        ({"format": "mp3", "bitrate": 128_000}, PART_SAMPLES + 1),
        ({"sample_rate_hz": 16_000, "mono": True}, LONG),
        ({"sample_rate_hz": 16_000, "mono": True}, PART_SAMPLES + 1),
        ({"stems": ("accompaniment",)}, LONG),
    ],
)
def test_a_track_of_several_parts_gives_the_bytes_and_the_row_of_one(work, model, tmp_path, monkeypatch, changes, samples):
    work, path = with_settings(work, **changes), song(tmp_path, samples)
    whole = in_one_part(work, model, path, monkeypatch)
    found = joined(work, model, path)
    assert (found["status"], found["error"]) == ("ok", None)
    assert (whole["parts"], found["parts"]) == (1, 2 if samples < LONG else 3)
    assert found["audio_s"] == pytest.approx(samples / RATE_HZ)
    assert found["above_f_db"] == pytest.approx(whole["above_f_db"], abs=LEVEL_DB)
    assert found["null_db"] == pytest.approx(whole["null_db"], abs=NULL_DB)
    for ours, expected in zip(found["stems"], whole["stems"], strict=True):
        assert ours["lufs"] == pytest.approx(expected.pop("lufs"), abs=LUFS)
        assert [ours[name] for name in ANALYSED] == [expected.pop(name) for name in ANALYSED]
        assert (len(ours["levels_dbfs"]), len(ours["active_regions"]) > 2) == (-(-samples // RATE_HZ), True)
        assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=LEVEL_DB)
        content = storage.read(f"{work.out}/{ours['uri']}")
        assert (len(content), hashlib.sha256(content).hexdigest()) == (ours["bytes"], ours["sha256"])
        rate_hz, codec = work.settings.written_rate_hz, work.settings.codec
        assert (ours["sample_rate_hz"], ours["channels"]) == (rate_hz, work.settings.written_channels)
        assert ours["frames"] == work.settings.written_frames(samples)
        assert 0 <= decoded(content, rate_hz=rate_hz).wave.shape[1] - ours["frames"] <= codec.longer
    of_parts = {*rows.PLACE.names, "parts", "above_f_db", "null_db", "stems", "audio_s"}
    times = {"decode_s", "separate_s", "write_s", "finished_at"}
    equal = whole.keys() - of_parts - times
    assert {name: found[name] for name in equal} == {name: whole[name] for name in equal}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_parts_may_arrive_in_any_order(work, model, tmp_path, order):
    parts = written(work, model, song(tmp_path))
    finished, (whole,) = gathered([parts[place] for place in order])
    assert not finished
    assert [rows.value(row, "part") for row in whole] == [0, 1, 2]


def test_a_part_that_arrives_twice_counts_once(work, model, tmp_path):
    parts = written(work, model, song(tmp_path))
    _, whole = gathered([parts[0], parts[0], parts[2], parts[0]])
    assert not whole
    _, (whole,) = gathered([parts[0], parts[0], parts[2], parts[1]])
    assert len(whole) == 3


def test_a_track_of_one_part_is_finished_at_once_and_stores_no_part(work, model, tmp_path):
    (row,) = written(work, model, song(tmp_path, PART_SAMPLES - SPEC.frame_length))
    finished, whole = gathered([row])
    assert ([rows.value(row, "status") for row in finished], whole) == (["ok"], [])
    assert not (tmp_path / "out" / "_sep" / "parts").is_dir() or not list((tmp_path / "out" / "_sep" / "parts").rglob("*.vocals"))


def test_several_long_tracks_are_gathered_apart(work, model, tmp_path):
    tracks = {id: written(work, model, song(tmp_path, LONG + number), id=id) for number, id in enumerate("xyz")}
    mixed = [row for parts in tracks.values() for row in parts]
    random.Random(0).shuffle(mixed)
    _, whole = gathered(mixed)
    assert sorted({rows.value(row, "id") for row in parts}.pop() for parts in whole) == list("xyz")
    for parts in whole:
        (row,) = long_tracks.join(parts, work).to_pylist()
        assert row["stems"][0]["frames"] == LONG + list("xyz").index(row["id"])


def test_a_part_that_fails_fails_its_track_once(work, model, tmp_path):
    parts = written(work, model, song(tmp_path))
    failed = [rows.fill(row, rows.WRITTEN, status="failed", error_class="write_error") for row in parts]
    for order in ([failed[0], parts[1], parts[2]], [parts[0], failed[1], parts[2]], [parts[0], failed[2], failed[1]]):
        finished, whole = gathered(order)
        assert [rows.value(row, "status") for row in finished] == ["failed"]
        assert not whole


def test_what_breaks_off_in_its_second_part_fails_once_and_says_why(work, model, tmp_path):
    path = song(tmp_path, 4 * PART_SAMPLES)
    with path.open("r+b") as file:
        file.truncate(3 * path.stat().st_size // 8)
    rows_out = written(work, model, path)
    finished, whole = gathered(rows_out)
    assert len(rows_out) == 2
    assert [row.to_pylist()[0]["error_class"] for row in finished] == ["damaged"]
    assert not whole


@pytest.mark.parametrize("harm", ["shorter", "absent"])
def test_a_stored_part_that_is_not_what_was_stored_fails_the_track_and_gives_no_stem_of_it(work, model, tmp_path, harm):
    _, (parts,) = gathered(written(work, model, song(tmp_path)))
    (stored,) = (tmp_path / "out" / "_sep" / "parts").rglob("1.vocals")
    if harm == "shorter":
        stored.write_bytes(stored.read_bytes()[:-400])
    else:
        stored.unlink()
    row = long_tracks.join(parts, work).to_pylist()[0]
    assert (row["status"], row["error_class"], row["transient"], row["stems"]) == ("failed", "write_error", True, None)
    assert not list((tmp_path / "out").glob("stems/**/vocals.flac"))
    assert not list((tmp_path / "out").rglob("join-*"))
