"""A song has one id however it is named, and two songs have two: nothing of one is written over the other."""

from __future__ import annotations

import os
import shutil

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import stems_below, write_tone

from sep_batch.jobs.manifest import ManifestOptions, run_manifest
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import index


def ways(folder, work):
    """Return every way to name the song `album/01.wav` of a folder or prefix, by what it is called."""
    song = f"{folder}/album/01.wav"
    tables = {"relative": "album/01.wav", "absolute": song}
    for name, uri in tables.items():
        content = pa.BufferOutputStream()
        pyarrow.parquet.write_table(pa.table({"uri": [uri]}), content)
        storage.put(f"{folder}/{name}.parquet", content.getvalue().to_pybytes())
    storage.put(f"{folder}/list.txt", b"album/01.wav\n")
    run_manifest([f"{folder}/album/*.wav"], f"{work}/of-a-glob.parquet", ManifestOptions())
    run_manifest([f"{folder}/album"], f"{work}/of-a-folder.csv", ManifestOptions())
    run_manifest([f"{folder}/list.txt"], f"{work}/of-a-list.jsonl", ManifestOptions())
    return {
        "file": song,
        "folder": f"{folder}/album",
        "parent folder": str(folder),
        "manifest of a relative URI": f"{folder}/relative.parquet",
        "manifest of an absolute URI": f"{folder}/absolute.parquet",
        "list": f"{folder}/list.txt",
        "manifest of a glob": f"{work}/of-a-glob.parquet",
        "manifest of a folder": f"{work}/of-a-folder.csv",
        "manifest of a list": f"{work}/of-a-list.jsonl",
    }


def check_ring(found, model, work):
    """Run a song named in each way, and see that it is done as the next way names it: so all ids are one."""
    names = list(found)
    for number, (first, second) in enumerate(zip(names, [*names[1:], names[0]], strict=True)):
        assert run_job(found[first], f"{work}/{number}", model=model).ok == 1, first
        planned = run_plan(found[second], f"{work}/{number}", model=model)
        assert planned.reasons == {"done": 1}, (first, second)


def test_a_song_has_one_id_however_it_is_named(tmp_path, tiny, local, monkeypatch):
    write_tone(tmp_path / "music" / "album" / "01.wav", seconds=0.2)
    (tmp_path / "work").mkdir()
    found = ways(tmp_path / "music", tmp_path / "work")
    monkeypatch.chdir(tmp_path / "music" / "album")
    found |= {"relative file": "01.wav", "relative folder": ".", "relative parent": "..", "URI": f"file://{found['file']}"}
    check_ring(found, tiny, tmp_path / "outs")


def test_a_song_on_object_storage_has_one_id_however_it_is_named(tmp_path, tiny, local, s3):
    song = write_tone(tmp_path / "01.wav", seconds=0.2)
    storage.put(f"{s3}/one-id/album/01.wav", song.read_bytes())
    check_ring(ways(f"{s3}/one-id", tmp_path), tiny, tmp_path / "outs")


def test_two_songs_of_one_name_are_two_songs_in_one_out(tmp_path, tiny, local):
    songs = [write_tone(tmp_path / album / "01.wav", hz, seconds=0.2) for album, hz in (("al1", 300), ("al2", 500))]
    out = tmp_path / "out"
    for source in (*songs, *(song.parent for song in songs)):
        run_job(str(source), str(out), model=tiny)
    assert {row["uri"] for row in index.read(str(out)).to_pylist()} == {str(song) for song in songs}
    assert len(set(stems_below(out).values())) == 4
    assert run_verify(str(out), deep=True).counts == {}


def renamed(out, ids):
    """Make an OUT's rows those of an earlier version, which made other ids."""
    for path in [*(out / "_sep" / "journal").glob("*.parquet"), out / "index.parquet"]:
        table = pyarrow.parquet.read_table(path)
        old = [ids[uri] for uri in table["uri"].to_pylist()]
        pyarrow.parquet.write_table(table.set_column(0, "id", pa.array(old)), path)


def test_an_out_of_before_keeps_its_ids_and_has_nothing_to_do(tmp_path, tiny, local):
    for name in ("a", "b"):
        write_tone(tmp_path / "songs" / f"{name}.wav", seconds=0.2)
    out = tmp_path / "out"
    run_job(str(tmp_path / "songs"), str(out), model=tiny)
    renamed(out, {f"{tmp_path}/songs/{name}.wav": f"{name}-old" for name in ("a", "b")})
    assert run_plan(str(tmp_path / "songs"), str(out), model=tiny).reasons == {"done": 2}
    summary = run_job(str(tmp_path / "songs"), str(out), model=tiny)
    assert (summary.done_before, summary.tried, summary.vanished) == (2, 0, [])
    write_tone(tmp_path / "songs" / "a.wav", 700, seconds=0.3)
    assert run_job(str(tmp_path / "songs"), str(out), model=tiny).ok == 1
    assert index.read(str(out)).column("id").to_pylist() == ["a-old", "b-old"]


def manifest_of(path, uri, **columns):
    pyarrow.parquet.write_table(pa.table({"uri": [str(uri)], "id": ["song"], **columns}), path)
    return str(path)


def test_an_id_of_a_song_that_is_still_there_is_not_given_to_another(tmp_path, tiny, local):
    first, second = (write_tone(tmp_path / name, hz, seconds=0.2) for name, hz in (("1.wav", 300), ("2.wav", 500)))
    out = tmp_path / "out"
    run_job(manifest_of(tmp_path / "1.parquet", first), str(out), model=tiny)
    before = stems_below(out)
    other = manifest_of(tmp_path / "2.parquet", second)
    with pytest.raises(errors.ManifestError, match=r"id song is .*2.wav in the manifest, but .*1.wav in OUT, .*still there"):
        run_job(other, str(out), model=tiny)
    with pytest.raises(errors.ManifestError):
        run_job(other, str(out), model=tiny, bit_depth="24", overwrite=True)
    assert run_plan(other, str(out), model=tiny).exit_code == 5
    assert stems_below(out) == before
    assert run_job(str(tmp_path / "1.parquet"), str(out), model=tiny).done_before == 1  # its settings are what they were
    first.unlink()
    assert run_job(other, str(out), model=tiny).ok == 1


def test_a_song_that_moved_stays_done_where_id_and_etag_agree(tmp_path, tiny, local):
    song = write_tone(tmp_path / "old" / "1.wav", seconds=0.2)
    out = str(tmp_path / "out")
    etag = storage.info(str(song)).etag
    run_job(manifest_of(tmp_path / "1.parquet", song, source_etag=[etag]), out, model=tiny)
    (tmp_path / "new").mkdir()
    moved = shutil.move(song, tmp_path / "new" / "1.wav")
    assert storage.info(str(moved)).etag == etag
    assert run_job(manifest_of(tmp_path / "2.parquet", moved, source_etag=[etag]), out, model=tiny).done_before == 1


def test_a_file_of_another_size_with_the_same_time_has_changed(tmp_path, tiny, local):
    song = write_tone(tmp_path / "songs" / "1.wav", seconds=0.2)
    out, then = str(tmp_path / "out"), song.stat().st_mtime_ns
    run_job(str(song.parent), out, model=tiny)
    write_tone(song, seconds=0.3)
    os.utime(song, ns=(then, then))
    assert run_job(str(song.parent), out, model=tiny).ok == 1


def test_etags_of_before_which_were_times_alone_read_on(tmp_path, tiny, local):
    song = write_tone(tmp_path / "songs" / "1.wav", seconds=0.2)
    out = tmp_path / "out"
    run_job(str(song.parent), str(out), model=tiny)
    for path in [*(out / "_sep" / "journal").glob("*.parquet"), out / "index.parquet"]:
        table = pyarrow.parquet.read_table(path)
        times = pa.array([etag.rpartition(" ")[0] for etag in table["source_etag"].to_pylist()])
        pyarrow.parquet.write_table(table.set_column(table.schema.get_field_index("source_etag"), "source_etag", times), path)
    assert run_job(str(song.parent), str(out), model=tiny).done_before == 1
    then = song.stat().st_mtime_ns
    write_tone(song, seconds=0.3)
    os.utime(song, ns=(then, then))
    assert run_job(str(song.parent), str(out), model=tiny).ok == 1


BY_NAME = "{filename}/{stem}.{ext}"


def test_a_song_of_another_run_is_not_written_over_by_one_of_the_same_file_name(tmp_path, tiny, local):
    songs = [write_tone(tmp_path / album / "01.wav", hz, seconds=0.2) for album, hz in (("al1", 300), ("al2", 500))]
    out = str(tmp_path / "out")
    run_job(str(songs[0]), out, model=tiny, filename=BY_NAME)
    before = stems_below(tmp_path / "out")
    with pytest.raises(errors.UsageError, match=r"al2/01.wav gives stems/01/.* of another track, 01-.* \(.*al1/01.wav\)"):
        run_job(str(songs[1]), out, model=tiny, filename=BY_NAME)
    planned = run_plan(str(songs[1]), out, model=tiny, filename=BY_NAME)
    assert (planned.exit_code, planned.refused is not None) == (2, True)
    assert stems_below(tmp_path / "out") == before
    assert run_verify(out, deep=True).counts == {}
    assert run_job(str(songs[0]), out, model=tiny, filename=BY_NAME).done_before == 1


def test_a_song_that_was_moved_takes_the_place_of_its_old_stems(tmp_path, tiny, local):
    song, out = write_tone(tmp_path / "old" / "01.wav", seconds=0.2), str(tmp_path / "out")
    run_job(str(song), out, model=tiny, filename=BY_NAME)
    (tmp_path / "old").rename(tmp_path / "new")
    assert run_job(str(tmp_path / "new"), out, model=tiny, filename=BY_NAME).ok == 1
    assert {row["uri"]: row["status"] for row in index.read(out).to_pylist()} == {
        str(song): "replaced",
        str(tmp_path / "new" / "01.wav"): "ok",
    }
    assert run_verify(out, deep=True).counts == {}


def test_half_of_an_out_is_not_overwritten_at_paths_of_the_other_half(tmp_path, tiny, local):
    for name, hz in (("a", 300), ("b", 500)):
        write_tone(tmp_path / f"{name}.wav", hz, seconds=0.2)
    pyarrow.parquet.write_table(pa.table({"uri": ["a.wav", "b.wav"], "id": ["b", "z"]}), tmp_path / "m.parquet")
    manifest, out = str(tmp_path / "m.parquet"), str(tmp_path / "out")
    run_job(manifest, out, model=tiny, filename=BY_NAME)
    with pytest.raises(errors.UsageError, match="another track, z "):
        run_job(manifest, out, model=tiny, filename="{id}/{stem}.{ext}", overwrite=True, limit=1)
    assert run_verify(out, deep=True).counts == {}
    assert run_job(manifest, out, model=tiny, filename="{id}/{stem}.{ext}", overwrite=True).ok == 2


def test_an_id_is_found_to_be_anothers_behind_any_number_of_sources_that_are_gone(tmp_path, tiny, local):
    names = [f"{number:02}" for number in range(22)]
    for name in names:
        write_tone(tmp_path / "old" / f"{name}.wav", seconds=0.05)
        write_tone(tmp_path / "new" / f"{name}.wav", 500, seconds=0.06)
    for folder in ("old", "new"):
        table = pa.table({"uri": [f"{folder}/{name}.wav" for name in names], "id": names})
        pyarrow.parquet.write_table(table, tmp_path / f"{folder}.parquet")
    out = str(tmp_path / "out")
    run_job(str(tmp_path / "old.parquet"), out, model=tiny)
    for name in names[:-1]:
        (tmp_path / "old" / f"{name}.wav").unlink()
    with pytest.raises(errors.ManifestError, match="id 21 is .*new/21.wav"):
        run_job(str(tmp_path / "new.parquet"), out, model=tiny)
