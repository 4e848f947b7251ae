"""A manifest made: what is listed, in which order, and that its etags are those which a run finds."""

from __future__ import annotations

import json
import os
import re
import shutil

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone

from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import ids, lists, scan
from sep_batch.pipeline.out import index
from sep_batch.pipeline.rows import EXTRA

SONGS = ["a.FLAC", "b.wav", "deep/[x] e.ogg", "deep/c.mp3"]


@pytest.fixture
def music(tmp_path):
    for name in ("b.wav", "a.FLAC", "deep/c.mp3", "notes.doc", ".hidden.wav", ".trash/d.wav", "deep/[x] e.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    return tmp_path


def column(table, name):
    return table.column(name).to_pylist()


def found(*sources, **options):
    return scan.scan([str(source) for source in sources], **options).table


def test_folders_files_and_globs_are_listed_once_each(music):
    table = found(music / "b.wav", music, f"{music}/deep/*.mp3")
    assert table.schema.equals(scan.LISTED)
    assert column(table, "uri") == [f"{music}/{song}" for song in ("b.wav", "a.FLAC", "deep/[x] e.ogg", "deep/c.mp3")]
    assert dict(zip(column(table, "uri"), column(table, "size"), strict=True)) == {f"{music}/{song}": len(song) for song in SONGS}
    assert column(table, "id") == [ids.made_id(uri, None, None) for uri in column(table, "uri")]


def test_a_source_without_audio_is_refused_by_name(tmp_path):
    for source in (tmp_path, f"{tmp_path}/*.wav", tmp_path / "absent.wav", tmp_path / "absent.csv"):
        with pytest.raises(errors.ManifestError, match=re.escape(str(source))):
            found(source)


@pytest.mark.parametrize(("sources", "songs"), [(["b.wav", "b.wav"], ["b.wav"]), (["", "deep"], SONGS)])
def test_a_source_that_another_one_holds_already_is_no_mistake(music, sources, songs):
    assert column(found(*(music / source for source in sources)), "uri") == [f"{music}/{song}" for song in songs]


def test_what_is_hidden_is_left_out_of_patterns_too_but_not_where_it_is_named(music):
    assert column(found(f"{music}/**/*.wav"), "uri") == [f"{music}/b.wav"]
    assert column(found(f"{music}/.trash/*.wav"), "uri") == [f"{music}/.trash/d.wav"]


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_a_limit_takes_the_first(music, limit):
    counts = []
    table = found(music, music / "b.wav", limit=limit, count_files=counts.append)
    assert column(table, "uri") == [f"{music}/{song}" for song in SONGS][:limit]
    assert sum(counts) == min(limit, len(SONGS) + 1)


def test_no_http_is_asked_where_it_is_not_allowed():
    with pytest.raises(errors.ManifestError, match="--allow-http"):
        found("http://127.0.0.1:9/a.wav")


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl", "ndjson", "pq"])
@pytest.mark.parametrize("modified_s", [1.5e9, 1.5e9 + 0.25])
def test_a_manifest_says_the_same_in_each_format(music, extension, modified_s):
    for song in SONGS:
        os.utime(music / song, (modified_s, modified_s))
    table = found(music)
    lists.write(table, f"{music}/list.{extension}")
    read = manifest.read(f"{music}/list.{extension}").tracks
    for name in ("uri", "id", "source_etag"):
        assert column(read, name) == column(table, name)
    assert column(read, EXTRA) == [{"size": size} for size in column(table, "size")]
    assert column(read, "source_etag") == [storage.info(uri).etag for uri in column(table, "uri")]


def rerun(source, manifest_uri, tiny, out):
    """Make the manifest anew and run it; return how many tracks were done before and are done now."""
    lists.write(found(source), manifest_uri)
    summary = run_job(manifest_uri, out, model=tiny, gpus=0, stems=("vocals",))
    assert summary.failed == {}
    return summary.done_before, summary.ok


@pytest.mark.parametrize("name", ["m.parquet", "m.csv", "m.jsonl"])
def test_a_manifest_made_again_has_nothing_done_again_but_what_changed(tmp_path, tiny, local, name):
    songs, out = tmp_path / "songs", str(tmp_path / "out")
    for hz in (300, 500):
        os.utime(write_tone(songs / f"{hz}.wav", hz, 0.1), (1.5e9 + hz, 1.5e9 + hz))  # whole seconds, as archives keep them
    write_tone(tmp_path / "elsewhere.wav", 600, 0.1)
    (songs / "link.wav").symlink_to(tmp_path / "elsewhere.wav")
    assert rerun(songs, str(tmp_path / name), tiny, out) == (0, 3)
    assert rerun(songs, str(tmp_path / name), tiny, out) == (3, 0)
    write_tone(songs / "500.wav", 400, 0.1)
    assert rerun(songs, str(tmp_path / name), tiny, out) == (2, 1)
    write_tone(tmp_path / "elsewhere.wav", 700, 0.1)
    assert rerun(songs, str(tmp_path / name), tiny, out) == (2, 1)


def test_a_manifest_of_s3_made_again_has_nothing_done_again_but_what_changed(tmp_path, s3, tiny, local):
    here, out = f"{s3}/again", str(tmp_path / "out")
    for hz in (300, 500):
        storage.put(f"{here}/{hz}.wav", write_tone(tmp_path / f"{hz}.wav", hz, 0.1).read_bytes())
    assert rerun(here, str(tmp_path / "m.parquet"), tiny, out) == (0, 2)
    assert rerun(here, str(tmp_path / "m.jsonl"), tiny, out) == (2, 0)
    storage.put(f"{here}/500.wav", write_tone(tmp_path / "new.wav", 600, 0.1).read_bytes())
    assert rerun(here, str(tmp_path / "m.csv"), tiny, out) == (1, 1)


def test_what_ran_without_etags_is_known_by_them_afterwards(tmp_path, tiny, local):
    songs, out = tmp_path / "songs", str(tmp_path / "out")
    write_tone(songs / "a.wav", 300, 0.1)
    table = found(songs)
    lists.write(table.select(["uri", "id"]), str(tmp_path / "bare.csv"))
    assert run_job(str(tmp_path / "bare.csv"), out, model=tiny, gpus=0, stems=("vocals",)).ok == 1
    assert column(index.read(out), "source_etag") == column(table, "source_etag")
    assert rerun(songs, str(tmp_path / "m.parquet"), tiny, out) == (1, 0)


@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_text_list_has_a_uri_a_line(music, bom):
    (music / "list.txt").write_text(f"{bom}deep/c.mp3\r\n\n  {music}/b.wav \ns3://songs/x y.mp3")
    table = found(music / "list.txt")
    assert column(table, "uri") == [f"{music}/deep/c.mp3", f"{music}/b.wav", "s3://songs/x y.mp3"]
    assert column(table, "id")[0] == ids.made_id(f"{music}/deep/c.mp3", None, None)
    assert column(table, "size") == column(table, "source_etag") == [None] * 3


def test_a_text_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(errors.ManifestError, match="list.txt: not readable as text"):
        found(tmp_path / "list.txt")


LIST = [
    {"file": "a.FLAC", "key": "x", "offset_s": 1.0, "duration_s": None, "size": 7, "artist": "A"},
    {"file": "a.FLAC", "key": "y", "offset_s": 2.0, "duration_s": 5.0, "size": None, "artist": "B"},
]


@pytest.mark.parametrize("name", ["l.csv", "l.jsonl", "l.parquet"])
def test_a_list_keeps_what_it_says_and_gives_the_manifest_that_it_would_have_been(music, name):
    lists.write(pa.Table.from_pylist(LIST), f"{music}/{name}")
    how = lists.Reading(uri_column="file", id_column="key")
    table = found(music / name, how=how)
    assert table.column_names == ["uri", "id", "size", "source_etag", "offset_s", "duration_s", "artist"]
    assert column(table, "size") == [7, None]
    lists.write(table, f"{music}/made.parquet")
    itself, made = manifest.read(f"{music}/{name}", uri_column="file", id_column="key"), manifest.read(f"{music}/made.parquet")
    ours = [name for name in itself.tracks.column_names if name != EXTRA]
    assert made.tracks.select(ours).equals(itself.tracks.select(ours))
    assert made.warnings == ()


def test_a_size_that_is_no_number_of_bytes_is_carried_under_another_name(music):
    (music / "l.csv").write_text("uri,size\nb.wav,3:20 min\n")
    table = found(music / "l.csv")
    assert (column(table, "size"), column(table, "manifest_size")) == ([None], ["3:20 min"])


def test_lists_and_folders_together_are_one_manifest(music):
    (music / "l.jsonl").write_text(json.dumps({"uri": "b.wav", "id": "bee", "artist": "A"}) + "\n")
    table = found(music / "l.jsonl", music)
    assert column(table, "uri") == [f"{music}/{song}" for song in ("b.wav", "a.FLAC", "deep/[x] e.ogg", "deep/c.mp3")]
    assert (column(table, "id")[0], column(table, "artist")) == ("bee", ["A", None, None, None])


def test_an_id_that_two_lists_give_to_different_files_is_refused(music):
    (music / "one.csv").write_text("uri,id\nb.wav,Bee\n")
    (music / "two.csv").write_text("uri,id\na.FLAC,bee\n")
    with pytest.raises(errors.ManifestError, match="given to different files by two sources: bee"):
        found(music / "one.csv", music / "two.csv")


def test_lists_whose_columns_do_not_fit_together_are_refused(music):
    (music / "one.csv").write_text("uri,year\nb.wav,1999\n")
    (music / "two.csv").write_text("uri,year\na.FLAC,unknown\n")
    with pytest.raises(errors.ManifestError, match="year"):
        found(music / "one.csv", music / "two.csv")


def test_a_list_from_elsewhere_names_no_file_of_this_machine(music):
    storage.put("memory://lists/l.txt", f"{music}/b.wav\n".encode())
    with pytest.raises(errors.ManifestError, match="--input-root"):
        found("memory://lists/l.txt")
    assert column(found("memory://lists/l.txt", how=lists.Reading(input_root=str(music))), "uri") == [f"{music}/b.wav"]


def test_a_manifest_is_not_written_under_another_extension(tmp_path):
    with pytest.raises(errors.UsageError, match=r"expected \.parquet"):
        lists.write(pa.table({"uri": ["a.wav"]}), str(tmp_path / "list.xlsx"))


def test_a_column_that_csv_cannot_hold_is_told_in_one_line(tmp_path):
    with pytest.raises(errors.UsageError, match="Parquet holds every column"):
        lists.write(pa.table({"uri": ["a.wav"], "tags": [["x"]]}), str(tmp_path / "list.csv"))
    assert not list(tmp_path.iterdir())


def test_a_table_survives_being_written_as_parquet_in_memory():
    table = pa.table({"uri": ["a.wav"], "year": pa.array([1999], pa.int16())})
    lists.write(table, "memory://lists/m.parquet")
    assert pyarrow.parquet.read_table(pa.BufferReader(storage.read("memory://lists/m.parquet"))).equals(table)


def test_a_listing_of_many_files_is_in_the_order_of_their_names(tmp_path):
    names = [f"{album}/{song}.mp3" for album in ("a", "a b", "a.b", "b") for song in range(400)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert column(found(tmp_path), "uri") == sorted(f"{tmp_path}/{name}" for name in names)
    shutil.rmtree(tmp_path)
