"""What a listing leaves out whatever its name: stems of ours, folders that may not be read, pipes, links, odd times."""

from __future__ import annotations

import os

import pytest
from catalogs import write_tone

from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.run.sync import run_sync
from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import scan


def names(found):
    return [uri.rpartition("/")[2] for uri in found.tracks.column("uri").to_pylist()]


@pytest.fixture
def music(tmp_path):
    for name in ("a.wav", "deep/b.wav"):
        write_tone(tmp_path / "music" / name, seconds=0.1)
    return tmp_path / "music"


@pytest.mark.parametrize("out", ["stems", "album.stems", "deep/Out", "."])
def test_stems_of_ours_are_no_sources_of_the_next_night(music, tiny, local, out):
    for _ in range(3):
        summary = run_sync(str(music), str(music / out), model=tiny, format="wav")
        assert (summary.tracks, summary.exit_code) == (2, 0)
    assert any("that sep-batch wrote" in one for one in summary.warnings)
    assert names(manifest.read(str(music))) == ["a.wav", "b.wav"]


def test_exports_of_ours_are_no_sources(music):
    for name in ("_sep/export.json", "train/x/mix.wav", "test/y/vocals.wav", "README.md"):
        storage.put(f"{music}/data/{name}", b"{}")
    storage.put(f"{music}/other/train/c.wav", b"x")
    assert names(manifest.read(str(music))) == ["a.wav", "b.wav", "c.wav"]


def test_an_out_alone_is_no_source(tmp_path, music, tiny, local):
    run_job(str(music), str(tmp_path / "out"), model=tiny)
    with pytest.raises(errors.ManifestError, match=r"found no audio in .*: .*that sep-batch wrote"):
        manifest.read(str(tmp_path / "out"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named_and_the_others_are_listed(music):
    write_tone(music / "closed" / "c.wav", seconds=0.1)
    (music / "closed").chmod(0)
    found = manifest.read(str(music))
    assert names(found) == ["a.wav", "b.wav"]
    assert "1 unreadable folder (closed)" in found.warnings[0]


def test_a_folder_whose_reading_is_refused_is_named_and_the_others_are_listed(music, monkeypatch):
    write_tone(music / "closed" / "c.wav", seconds=0.1)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = manifest.read(str(music))
    assert names(found) == ["a.wav", "b.wav"]
    assert "1 unreadable folder (closed)" in found.warnings[0]
    with pytest.raises(errors.AccessDenied):
        list(storage.find(str(music)))


def test_pipes_and_links_to_folders_are_left_out_and_links_to_files_are_followed(music, tmp_path):
    os.mkfifo(music / "pipe.wav")
    write_tone(tmp_path / "elsewhere" / "e.wav", seconds=0.1)
    (music / "linked").symlink_to(tmp_path / "elsewhere")
    (music / "link.wav").symlink_to(tmp_path / "elsewhere" / "e.wav")
    found = manifest.read(str(music))
    assert names(found) == ["a.wav", "b.wav", "link.wav"]
    assert "1 special file" in found.warnings[0]
    assert "1 linked folder" in found.warnings[0]


@pytest.mark.parametrize("folder", ["lost+found", "@eaDir", "$RECYCLE.BIN", ".Trashes"])
def test_folders_of_the_system_are_hidden(music, folder):
    write_tone(music / folder / "x.wav", seconds=0.1)
    found = manifest.read(str(music))
    assert names(found) == ["a.wav", "b.wav"]
    assert "1 hidden file" in found.warnings[0]


@pytest.mark.parametrize("seconds", [-62_200_000_000, 1_000_000_000_000])
def test_a_time_of_the_year_0_or_33658_is_a_time(music, seconds):
    try:
        os.utime(music / "a.wav", (seconds, seconds))
    except OSError:
        pytest.skip("this file system takes no such time")
    first = manifest.read(str(music)).tracks.column("source_etag")[0].as_py()
    assert first == manifest.read(str(music)).tracks.column("source_etag")[0].as_py()
    write_tone(music / "a.wav", seconds=0.2)
    assert first != manifest.read(str(music)).tracks.column("source_etag")[0].as_py()


def test_an_odd_time_of_a_client_is_no_error_of_the_listing():
    from sep_batch.pipeline.storage.filesystems import info_of

    for mtime in (-62_200_000_000.0, 1e12, float("inf")):
        assert info_of("/a.wav", {"size": 3, "mtime": mtime}).modified is None


@pytest.fixture
def made(music):
    """An OUT beside the songs, with a stem."""
    storage.put(f"{music}.stems/_sep/run.json", b"{}")
    write_tone(music.parent / f"{music.name}.stems" / "stems" / "ab" / "a" / "vocals.wav", seconds=0.1)
    return music.parent / f"{music.name}.stems"


@pytest.mark.parametrize("inside", ["stems", "stems/ab", "stems/ab/a"])
def test_a_folder_within_an_out_lists_none_of_its_stems(made, inside):
    with pytest.raises(errors.ManifestError, match=r"found no audio in .*: 1 file that sep-batch wrote"):
        manifest.read(str(made / inside))
    (made.parent / "link").symlink_to(made / inside)
    with pytest.raises(errors.ManifestError, match="1 file that sep-batch wrote"):
        manifest.read(str(made.parent / "link"))


def test_a_pattern_lists_none_of_our_stems(made, music):
    found = scan.scan([f"{music.parent}/**/*.wav"])
    assert [uri.rpartition("/")[2] for uri in found.table.column("uri").to_pylist()] == ["a.wav", "b.wav"]
    assert "1 file that sep-batch wrote" in found.warnings[0]


def test_folders_of_these_names_that_nothing_marks_are_listed(music):
    for folder in ("stems", "train"):
        write_tone(music / "set" / folder / f"{folder}.wav", seconds=0.1)
        assert names(manifest.read(str(music / "set" / folder))) == [f"{folder}.wav"]
    assert names(manifest.read(str(music))) == ["a.wav", "b.wav", "stems.wav", "train.wav"]
    assert len(scan.scan([f"{music}/**/*.wav"]).table) == 4


@pytest.mark.parametrize("out", ["", "/deep"])
def test_sources_are_not_where_runs_write(music, out, tiny):
    write_tone(music / f"{out[1:]}" / "stems" / "mine.wav", seconds=0.1)
    with pytest.raises(errors.UsageError, match=r"the source .*/stems/mine.wav lies in .*/stems, where runs write"):
        run_plan(str(music), f"{music}{out}", model=tiny)
