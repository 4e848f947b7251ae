"""Each export is loaded back by its own library: the stems' samples, what is known of them, and all that was asked for."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
from catalogs import decoded
from export_outs import stored, wave, write_out
from signals import RATE_HZ

from sep_batch.jobs.export.export import run_export

PATTERNS = {"a.b": "xxxxxx", "c": "..xxxx", "d": "xx"}
EXTRA = {
    name: {"artist": artist, "title": f"Nº {n}/2", "vocals": f"sung by {n}", "tags": ["x", str(n)], "year": 1970 + n}
    for n, (name, artist) in enumerate(zip(PATTERNS, ("AC/DC", "Can", None), strict=True))
}


@pytest.fixture(scope="module")
def waves():
    """Of each track its stems."""
    return {
        name: {"vocals": wave(pattern, seed=n), "accompaniment": wave("x" * len(pattern), seed=20 + n)}
        for n, (name, pattern) in enumerate(PATTERNS.items())
    }


@pytest.fixture(scope="module")
def out(waves, tmp_path_factory):
    """An OUT whose manifest had columns of its own, one of them with the name of a stem."""
    folder = str(tmp_path_factory.mktemp("songs") / "out")
    write_out(folder, waves, extra=EXTRA)
    return folder


def expected(waves, known, stem):
    """Return what an excerpt of two seconds has to be."""
    begin = round(known["start_s"] * RATE_HZ)
    return stored(waves[known["id"]][stem])[:, begin : begin + 2 * RATE_HZ]


def test_parquet_has_plain_columns_and_the_bytes_of_the_audio(inline_export, out, waves, tmp_path):
    run_export(out, str(tmp_path / "d"), to="parquet", excerpt="2s", min_active=("vocals=0.9",), with_mix=True)
    rows = pyarrow.parquet.read_table(tmp_path / "d" / "train").to_pylist()
    assert sorted(row["key"] for row in rows) == ["a.b-00000", "a.b-00001", "a.b-00002", "c-00001", "c-00002", "d-00000"]
    for row in rows:
        own = EXTRA[row["id"]]
        assert (row["artist"], row["year"], row["tags"], row["manifest_vocals"]) == (
            *(own["artist"], own["year"], own["tags"]),
            own["vocals"],
        )
        assert row["vocals_active"] >= 0.9
        for stem in ("vocals", "accompaniment"):
            assert np.array_equal(decoded(row[stem]).wave, expected(waves, row, stem))
        mix = expected(waves, row, "vocals") + expected(waves, row, "accompaniment")
        assert np.abs(decoded(row["mix"]).wave - mix).max() < 2 / 32768


def test_datasets_loads_its_splits_with_audio_columns(inline_export, out, waves, tmp_path, monkeypatch):
    for name, value in (("HF_HOME", str(tmp_path / "hf")), ("HF_HUB_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
    import datasets

    told = run_export(out, str(tmp_path / "d"), to="hf", excerpt="2s", split="0.5/0.5", sample_rate=RATE_HZ)
    loaded = datasets.load_dataset(str(tmp_path / "d"), cache_dir=str(tmp_path / "hf"))
    held = {split: number for split, number in told.excerpts.items() if number}
    assert {split: rows.num_rows for split, rows in loaded.items()} == held
    for rows in loaded.values():
        assert rows.features["vocals"] == datasets.Audio(sampling_rate=RATE_HZ)
        for stem in ("vocals", "accompaniment"):
            for row in rows.cast_column(stem, datasets.Audio(decode=False)).select_columns(["id", "start_s", stem]):
                samples, rate_hz = soundfile.read(io.BytesIO(row[stem]["bytes"]), dtype="float32")
                assert rate_hz == RATE_HZ
                assert np.array_equal(samples.T, expected(waves, row, stem))


@pytest.mark.parametrize("with_mix", [False, True])
def test_lhotse_reads_cuts_with_a_recording_a_stem(inline_export, out, waves, tmp_path, with_mix):
    from lhotse import CutSet

    run_export(out, str(tmp_path / "d"), to="lhotse", excerpt="2s", shard_size=3, with_mix=with_mix)
    cuts = list(CutSet.from_shar(in_dir=tmp_path / "d" / "train"))
    assert len({cut.id for cut in cuts}) == len(cuts) == 7
    for cut in cuts:
        known = {"id": cut.track, "start_s": cut.start_s}
        assert (cut.duration, cut.custom["year"], cut.has_recording) == (2.0, EXTRA[cut.track]["year"], with_mix)
        both = [expected(waves, known, stem) for stem in ("vocals", "accompaniment")]
        assert np.array_equal(cut.load_custom("vocals"), both[0])
        assert np.array_equal(cut.load_accompaniment(), both[1])
        if with_mix:
            assert np.abs(cut.load_audio() - sum(both)).max() < 2 / 32768


def test_lhotse_reads_mono_at_another_rate(inline_export, out, tmp_path):
    from lhotse import CutSet

    run_export(out, str(tmp_path / "d"), to="lhotse", excerpt="2s", mono=True, sample_rate=16_000, with_mix=True)
    (cut, *_) = CutSet.from_shar(in_dir=tmp_path / "d" / "train")
    assert (cut.sampling_rate, cut.num_channels) == (16_000, 1)
    assert cut.load_audio().shape == cut.load_vocals().shape == (1, 32_000)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """An OUT of four stems, two of its tracks with the same artist and title."""
    folder = str(tmp_path_factory.mktemp("four") / "out")
    stems = ("vocals", "drums", "bass", "other")
    tracks = {f"t{n}": {stem: wave("xx", seed=10 * n + s, level=0.05) for s, stem in enumerate(stems)} for n in range(6)}
    extra = {f"t{n}": {"artist": "AC/DC" if n < 2 else f"../{n}", "title": "T.N.T." if n < 2 else "Über"} for n in range(6)}
    write_out(folder, tracks, extra=extra)
    return folder, tracks


def test_musdb_has_the_layout_of_musdb18_hq(inline_export, four, tmp_path):
    out, tracks = four
    told = run_export(out, str(tmp_path / "d"), to="musdb", split="0.5/0.5")
    files = sorted(str(path.relative_to(tmp_path / "d")) for path in tmp_path.glob("d/*/*/*.wav"))
    assert sum(told.excerpts.values()) == 6
    assert len(files) == 6 * 5
    assert {Path(name).name for name in files} == {"mixture.wav", "vocals.wav", "drums.wav", "bass.wav", "other.wav"}
    names = {Path(name).parts[1] for name in files}
    assert sum(name.startswith("AC_DC - T.N.T [") for name in names) == 2
    assert "_2 - Über" in {name.replace("..", "") for name in names} | names
    mixes = {stored(sum(stems.values())).tobytes() for stems in tracks.values()}
    found = {decoded(path.read_bytes()).wave.tobytes() for path in tmp_path.glob("d/*/*/mixture.wav")}
    assert found == mixes


@pytest.mark.skipif(not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="musdb's reader calls ffmpeg and ffprobe")
def test_musdb_loads_train_and_test(inline_export, four, tmp_path):
    import musdb

    told = run_export(four[0], str(tmp_path / "d"), to="musdb", split="0.5/0.5")
    for split, number in told.excerpts.items():
        database = musdb.DB(root=str(tmp_path / "d"), is_wav=True, subsets=split)
        assert len(database) == number
        track = database[0]  # each of its stems is a process of ffmpeg's and one of ffprobe's, at every access
        stems = track.stems
        assert track.rate == RATE_HZ
        assert stems.shape == (5, 2 * RATE_HZ, 2)
        assert np.abs(stems[0] - stems[1:].sum(axis=0)).max() < 4 / 32768


def test_the_parquet_of_two_shards_has_one_schema(inline_export, out, tmp_path):
    run_export(out, str(tmp_path / "d"), to="parquet", excerpt="1s", shard_size=4)
    schemas = {str(pyarrow.parquet.read_schema(path)) for path in tmp_path.glob("d/train/*.parquet")}
    assert len(list(tmp_path.glob("d/train/*.parquet"))) == 4
    assert len(schemas) == 1
    assert pa.types.is_binary(pyarrow.parquet.read_schema(next(tmp_path.glob("d/train/*.parquet"))).field("vocals").type)
