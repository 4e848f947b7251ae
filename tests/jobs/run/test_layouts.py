"""Paths of stems as a person expects them: beside the song, in the folder's own tree, or sharded for a manifest."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import stems_below, write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.verify import repair
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline import errors, manifest, stem_paths
from sep_batch.pipeline.manifest.ids import made_id
from sep_batch.pipeline.out import index


def tree(out):
    """Return the paths of all stems below OUT, without `accompaniment`."""
    return sorted(path for path in stems_below(out) if "accompaniment" not in path)


def sources(out):
    """Return the URI of each stem's source below OUT, by the stem's path."""
    return {stem["uri"]: row["uri"] for row in index.read(str(out)).to_pylist() for stem in row["stems"] or ()}


@pytest.fixture
def album(tmp_path):
    """A folder of two discs, two of whose songs have the same path but for the extension."""
    for number, name in enumerate(("disc 1/01 song.wav", "disc 1/02 Song.wav", "disc 1/02 song.flac", "disc 2/01 song.wav")):
        write_tone(tmp_path / "album" / name, 300 + 40 * number, 0.3)
    return tmp_path / "album"


def marked(name, path):
    """Return a name with the mark of the track at a path."""
    return name + stem_paths.mark(made_id(str(path), None, None))


def test_a_song_has_its_stems_beside_it(tiny, local, tmp_path):
    song = write_tone(tmp_path / "song.wav", 300, 0.3)
    result = CliRunner().invoke(app, ["run", str(song), "-p", tiny])
    assert tree(tmp_path / "song.stems") == ["vocals.flac"]
    for stem in ("vocals", "accompaniment"):
        assert f"{tmp_path}/song.stems/{stem}.flac" in result.output.replace("\n", "")
    assert run_verify(str(tmp_path / "song.stems"), deep=True).counts == {}
    assert run_job(str(song), model=tiny).tried == 0


def test_a_song_with_out_has_a_folder_of_its_own_there(tiny, local, tmp_path):
    for name in ("a", "b"):
        run_job(str(write_tone(tmp_path / f"{name}.wav", 300, 0.3)), str(tmp_path / "out"), model=tiny)
    assert tree(tmp_path / "out") == ["a/vocals.flac", "b/vocals.flac"]


def test_a_folder_keeps_its_tree_and_of_two_songs_with_one_path_the_second_has_a_mark(tiny, local, album):
    run_job(str(album), model=tiny)
    out = album.with_suffix(".stems")
    with_mark = marked("02 song", album / "disc 1" / "02 song.flac")
    expected = ["disc 1/01 song", "disc 1/02 Song", f"disc 1/{with_mark}", "disc 2/01 song"]
    assert tree(out) == [f"{folder}/vocals.flac" for folder in expected]
    assert sources(out)["disc 1/02 Song/vocals.flac"].endswith("02 Song.wav")
    assert run_verify(str(out), deep=True).counts == {}
    assert run_job(str(album), model=tiny).tried == 0


def test_whoever_has_a_path_in_out_keeps_it_also_when_both_are_done_again(tiny, local, album):
    out = album.with_suffix(".stems")
    (album / "disc 1" / "02 Song.wav").rename(album.parent / "later.wav")
    run_job(str(album), model=tiny)
    (album.parent / "later.wav").rename(album / "disc 1" / "02 Song.wav")
    first = sources(out)
    run_job(str(album), model=tiny)
    later = sources(out)
    assert {path: later[path] for path in first} == first
    with_mark = marked("02 Song", album / "disc 1" / "02 Song.wav")
    assert later[f"disc 1/{with_mark}/vocals.flac"].endswith("02 Song.wav")
    run_job(str(album), model=tiny, overwrite=True, bit_depth="24")
    assert sources(out) == later
    assert run_verify(str(out), deep=True).counts == {}


def test_a_failed_first_song_that_comes_right_later_takes_nobodys_path(tiny, local, album):
    out, broken = album.with_suffix(".stems"), album / "disc 1" / "02 Song.wav"
    good = broken.read_bytes()
    broken.write_bytes(b"no audio")
    run_job(str(album), model=tiny)
    assert f"disc 1/{marked('02 song', album / 'disc 1' / '02 song.flac')}/vocals.flac" in tree(out)
    broken.write_bytes(good)
    run_job(str(album), model=tiny)
    assert len(set(tree(out))) == 4
    assert sources(out)["disc 1/02 Song/vocals.flac"].endswith("02 Song.wav")
    assert run_verify(str(out), deep=True).counts == {}


def test_the_layout_is_outs_whatever_the_source_is_later(tiny, local, album, tmp_path):
    out = str(tmp_path / "out.stems")
    run_job(str(album), out, model=tiny)
    before = tree(tmp_path / "out.stems")
    write_tone(album / "disc 2" / "02 new.wav", 700, 0.3)
    uris = [str(path) for path in sorted(album.rglob("*.*"))]
    pyarrow.parquet.write_table(pa.table({"uri": uris}), tmp_path / "songs.parquet")
    summary = run_job(str(tmp_path / "songs.parquet"), out, model=tiny)
    assert (summary.done_before, summary.ok) == (4, 1)
    assert tree(tmp_path / "out.stems") == sorted([*before, "disc 2/02 new/vocals.flac"])


def test_a_manifest_has_sharded_paths_and_a_folder_that_follows_has_them_too(tiny, local, album, tmp_path):
    uris = [str(path) for path in sorted(album.rglob("*.wav"))]
    pyarrow.parquet.write_table(pa.table({"uri": uris}), tmp_path / "songs.parquet")
    out = tmp_path / "songs.stems"
    run_job(str(tmp_path / "songs.parquet"), model=tiny)
    assert all(path.startswith("stems/") for path in tree(out))
    summary = run_job(str(album), str(out), model=tiny)
    assert (summary.done_before, summary.ok) == (3, 1)
    assert all(path.startswith("stems/") for path in tree(out))


def test_stems_that_would_lie_among_their_sources_lie_below_stems(tiny, local, album):
    run_job(str(album), str(album), model=tiny)
    made = [path for path in tree(album) if path.endswith("vocals.flac")]
    assert made[0] == "stems/disc 1/01 song/vocals.flac"
    assert run_job(str(album), str(album), model=tiny).tried == 0


@pytest.mark.parametrize("name", ["album.stems", "elsewhere"])
def test_a_folder_that_holds_outs_lists_no_stem(tiny, local, album, tmp_path, name):
    run_job(str(album), str(tmp_path / name), model=tiny)
    song = write_tone(tmp_path / "song.wav", 300, 0.3)
    run_job(str(song), model=tiny)
    listed = manifest.read(str(tmp_path))
    assert listed.tracks.num_rows == 5
    assert any("files that sep-batch wrote (in " in warning for warning in listed.warnings)
    for inside in ("song.stems", f"{name}/disc 1"):
        with pytest.raises(errors.ManifestError, match="found no audio in .* that sep-batch wrote"):
            manifest.read(str(tmp_path / inside))


def test_sources_in_an_out_that_has_its_stems_in_itself_are_refused(tiny, local, album, tmp_path):
    run_job(str(album), model=tiny)
    out = album.with_suffix(".stems")
    uri = str(out / "disc 1" / "01 song" / "vocals.flac")
    pyarrow.parquet.write_table(pa.table({"uri": [uri]}), tmp_path / "songs.parquet")
    with pytest.raises(errors.UsageError, match="vocals.flac lies in .*album.stems, where runs write; use another --out"):
        run_job(str(tmp_path / "songs.parquet"), str(out), model=tiny)


def test_an_out_whose_stems_could_be_taken_for_sources_is_refused_or_has_them_below_stems(album, tiny, local, tmp_path):
    with pytest.raises(errors.UsageError, match=r"^--filename \./\{filename\}-\{stem\}.*ends in \.stems"):
        run_job(str(album), str(tmp_path / "out"), model=tiny, filename="./{filename}-{stem}.{ext}")
    run_job(str(album), str(tmp_path / "out.stems"), model=tiny, filename="./{reldir}-{filename}-{stem}.{ext}", limit=1)
    assert tree(tmp_path / "out.stems") == ["disc 1-01 song-vocals.flac"]


def test_orphans_in_out_itself_are_those_that_a_row_has_named_and_other_files_stay(tiny, local, album, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run_job(str(album / "disc 1"), str(out), model=tiny)
    run_job(str(album / "disc 1"), str(out), model=tiny, format="wav", overwrite=True)
    run_job(str(album / "disc 2"), str(out / "disc 2"), model=tiny)  # an OUT in an OUT
    (out / "cover.jpg").write_bytes(b"kept")
    (out / "theirs").mkdir()
    shutil.copy(out / "01 song" / "vocals.wav", out / "theirs" / "vocals.wav")
    report = run_verify(str(out))
    assert report.counts == {"orphan": 6}
    assert all(found["uri"].endswith(".flac") for found in report.findings["orphan"])
    monkeypatch.setattr(repair, "REMOVED_FROM", repair.timedelta(0))
    run_verify(str(out), repair=True, yes=True)
    for place in (out, out / "disc 2"):
        assert run_verify(str(place), deep=True).counts == {}
    assert (out / "cover.jpg").exists()
    assert (out / "theirs" / "vocals.wav").exists()


def test_a_new_out_among_files_of_others_or_in_another_out_has_its_stems_below_stems(tiny, local, album, tmp_path):
    theirs = tmp_path / "theirs" / "01 song" / "vocals.flac"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    run_job(str(album / "disc 2"), str(tmp_path / "theirs"), model=tiny)
    assert theirs.read_bytes() == b"theirs"
    assert (tmp_path / "theirs" / "stems" / "01 song" / "vocals.flac").exists()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "x.wav").write_bytes(b"theirs")
    with pytest.raises(errors.UsageError, match="expected a new or empty OUT that lies in no other one"):
        run_job(str(album / "disc 2"), str(tmp_path / "others"), model=tiny, filename=stem_paths.SONGS)
    run_job(str(album), str(tmp_path / "all"), model=tiny)
    before = stems_below(tmp_path / "all")
    run_job(str(album / "disc 1"), str(tmp_path / "all" / "disc 1"), model=tiny, bit_depth="24")
    assert {name: stems_below(tmp_path / "all")[name] for name in before} == before


def test_an_out_without_its_run_json_is_asked_for_its_template(tiny, local, album):
    out = album.with_suffix(".stems")
    run_job(str(album), model=tiny)
    (out / "_sep" / "run.json").unlink()
    with pytest.raises(errors.UsageError, match=r"holds stems, but no _sep/run.json .* give it with --filename"):
        run_job(str(album), model=tiny)
    assert run_job(str(album), model=tiny, filename=stem_paths.TREE).tried == 0


def test_stems_that_were_in_out_itself_stay_known_when_the_template_changes(tiny, local, album, tmp_path):
    run_job(str(album), model=tiny)
    run_job(str(album), model=tiny, filename="{id}/{stem}.{ext}", overwrite=True, limit=1)
    assert manifest.read(str(tmp_path)).tracks.num_rows == 4
    run_job(str(album), str(tmp_path / "out"), model=tiny)
    with pytest.raises(errors.UsageError, match="has stems in itself .* use another --out"):
        run_job(str(album), str(tmp_path / "out"), model=tiny, filename="{id}/{stem}.{ext}", overwrite=True)


def test_songs_beside_the_folders_of_an_out_are_listed(tiny, local, tmp_path):
    run_job(str(write_tone(tmp_path / "x.wav", 300, 0.3)), str(tmp_path / "Music"), model=tiny)
    write_tone(tmp_path / "Music" / "album" / "song.wav", 300, 0.3)
    assert manifest.read(str(tmp_path / "Music" / "album")).tracks.num_rows == 1
    assert manifest.read(str(tmp_path / "Music")).tracks.num_rows == 1


def test_tracks_with_one_path_in_spite_of_a_mark_are_refused(tiny, local, album, monkeypatch):
    monkeypatch.setattr(stem_paths, "mark", lambda _id: "-00000000")
    write_tone(album / "disc 1" / "02 song.aiff", 300, 0.3)
    with pytest.raises(errors.UsageError, match="both give disc 1/02 song-00000000/vocals.flac; use another --out"):
        run_job(str(album), model=tiny)


def test_an_explicit_template_with_a_shared_path_is_refused(tiny, local, album):
    with pytest.raises(errors.UsageError, match="both give stems/02 song/vocals.flac; add {id}"):
        run_job(str(album / "disc 1"), model=tiny, filename="{filename}/{stem}.{ext}")


def test_a_run_json_with_another_template_is_refused(tiny, local, tmp_path):
    song = write_tone(tmp_path / "song.wav", 300, 0.3)
    run_job(str(song), model=tiny)
    path = tmp_path / "song.stems" / "_sep" / "run.json"
    content = json.loads(path.read_text())
    content["settings"]["filename"] = "../{stem}"
    path.write_text(json.dumps(content))
    result = CliRunner().invoke(app, ["run", str(song), "-p", tiny])
    assert result.exit_code == 5
    assert "run.json: not valid (settings.filename: " in result.output.replace("\n", " ")


def run(*arguments):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_several_songs_have_a_folder_each_and_need_an_out(tiny, local, tmp_path):
    songs = [write_tone(tmp_path / folder / f"{folder}.wav", 300, 0.3) for folder in "ab"]
    result = run(*songs, songs[0], "-o", tmp_path / "out", "-p", tiny)
    assert result.exit_code == 0, result.output
    assert tree(tmp_path / "out") == ["a/vocals.flac", "b/vocals.flac"]
    result = run(*songs, "-p", tiny)
    assert (result.exit_code, result.output) == (
        2,
        "error: --out: 2 sources have no default OUT; name a folder, as --out stems\n",
    )
    assert "nothing to do: 2 tracks" in run(*reversed(songs), "-o", tmp_path / "out", "-p", tiny).output


def test_several_folders_keep_their_trees_beside_each_other(tiny, local, album, tmp_path):
    out, song = tmp_path / "out", write_tone(tmp_path / "song.wav", 300, 0.3)
    assert run(album / "disc 1" / "01 song.wav", album / "disc 2", song, "-o", out, "-p", tiny).exit_code == 0
    assert tree(out) == ["album/disc 1/01 song/vocals.flac", "album/disc 2/01 song/vocals.flac", "song/vocals.flac"]
    (album / "disc 2" / "01 song.wav").rename(tmp_path / "gone.wav")
    write_tone(album / "disc 2" / "02 song.wav", 300, 0.3)
    result = run(album / "disc 2", song, "-o", out, "-p", tiny)
    assert "1 track of OUT no longer in the listing" in result.output.replace("\n", " ")


def test_a_manifest_among_several_sources_is_refused_and_a_missing_one_is_named(tiny, local, album, tmp_path):
    pyarrow.parquet.write_table(pa.table({"uri": [str(album / "disc 2" / "01 song.wav")]}), tmp_path / "songs.parquet")
    result = run(album, tmp_path / "songs.parquet", "-o", tmp_path / "out", "-p", tiny)
    assert (result.exit_code, "songs.parquet is a manifest among 2 sources" in result.output) == (5, True), result.output
    result = run(album, tmp_path / "nothing", "-o", tmp_path / "out", "-p", tiny)
    assert (result.exit_code, "nothing: not found" in result.output.replace("\n", "")) == (5, True), result.output


def test_a_plan_and_the_status_of_several_sources_are_those_of_their_run(tiny, local, album, tmp_path):
    sources = [str(album / "disc 1"), str(album / "disc 2")]
    planned = CliRunner().invoke(app, ["plan", *sources, "-o", str(tmp_path / "out"), "-p", tiny, "--json"])
    assert (json.loads(planned.stdout)["manifest"], json.loads(planned.stdout)["todo"]) == (f"{sources[0]} and 1 more", 4)
    run(*sources, "-o", tmp_path / "out", "-p", tiny, "--limit", 3)
    shutil.move(album / "disc 2" / "01 song.wav", album / "disc 2" / "02 song.wav")
    result = CliRunner().invoke(app, ["status", str(tmp_path / "out"), "--json"])
    assert "has changed since the last run" in json.loads(result.stdout)["unknown"]
