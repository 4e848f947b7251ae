"""Damaged files in a run: what fails, what is kept and flagged, and where both are counted."""

from __future__ import annotations

import json
import re

import pytest
from catalogs import finished, write_tone
from hostile.craft import whole
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.report import lines
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline.out import index
from sep_batch.pipeline.stages import analyze

COLUMNS = ("status", "error_class", "truncated", "skipped_packets")


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(out):
    """Return what the rows of an OUT say, by the first letters of their ids."""
    return {name.partition("-")[0]: tuple(getattr(row, column) for column in COLUMNS) for name, row in finished(out).items()}


@pytest.fixture
def songs(tmp_path):
    """Return a folder of a whole file, one of which a tenth is missing, and one of which most is."""
    folder, content = tmp_path / "songs", whole("flac", 3.0)
    folder.mkdir()
    (folder / "whole.flac").write_bytes(whole("flac", 1.0))
    (folder / "shorter.flac").write_bytes(content[: 9 * len(content) // 10])
    (folder / "begun.flac").write_bytes(content[: 2 * len(content) // 5])
    return folder


KEPT = {
    "whole": ("ok", None, False, 0),
    "shorter": ("ok", None, True, 1),
    "begun": ("failed", "damaged", None, None),
}
FAILED = KEPT | {"shorter": ("failed", "damaged", None, None)}


def test_both_kinds_are_counted_wherever_a_run_is_told_of(songs, tmp_path, tiny, local):
    out = str(tmp_path / "out")
    summary = run_job(str(songs), out, model=tiny, max_failures="100%")
    assert said(out) == KEPT
    assert (summary.ok, summary.ok_damaged, summary.failed) == (2, 1, {"damaged": 1})
    assert "1 of the separated tracks are damaged: truncated or with skipped packets" in lines(summary)
    assert "failed: 1 damaged" in lines(summary)

    rows = {row["id"].partition("-")[0]: row for row in index.read(out).to_pylist()}
    assert rows["whole"]["source_used_ratio"] == 1
    assert 0.9 < rows["shorter"]["source_used_ratio"] < 1
    assert rows["begun"]["error"].startswith("1.2 s of 3.0 s declared, 1 of 13 packets broken")
    assert (rows["begun"]["error_stage"], rows["begun"]["transient"], rows["begun"]["stems"]) == ("decode", False, None)

    counts = r"2 tracks, \d\.\d s of audio; 1 of them damaged: truncated or with skipped packets"
    assert re.search(counts, call("status", out).output)
    assert json.loads(call("status", out, "--json").stdout)["ok_damaged"] == 1
    told = call("failures", out).output
    assert "damaged: less than half was decoded" in told
    assert "1 more are ok but damaged: see truncated and skipped_packets in the index" in told
    assert json.loads(call("failures", out, "--class", "damaged", "--json").stdout)["failed"] == 1


def test_a_run_without_damaged_files_says_nothing_of_damage(tmp_path, tiny, local):
    write_tone(tmp_path / "songs" / "a.wav")
    out = tmp_path / "out"
    told = "".join(lines(run_job(str(tmp_path / "songs"), str(out), model=tiny)))
    told += call("status", out).output + call("failures", out).output
    assert "skipped packets" not in told


def test_fail_fails_flagged_tracks_and_is_permanent(songs, tmp_path, tiny, local):
    out = str(tmp_path / "out")
    run_job(str(songs), out, model=tiny, max_failures="100%", damaged="fail")
    assert said(out) == FAILED
    again = run_job(str(songs), out, model=tiny, max_failures="100%")
    assert (again.run, again.done_before, again.known_failed) == (None, 1, 2)
    run_job(str(songs), out, model=tiny, max_failures="100%", retry="all")
    assert said(out) == KEPT


def test_what_is_done_stays_done_under_fail(songs, tmp_path, tiny, local):
    out = str(tmp_path / "out")
    run_job(str(songs), out, model=tiny, max_failures="100%")
    again = run_job(str(songs), out, model=tiny, max_failures="100%", damaged="fail")
    assert (again.run, again.done_before, again.known_failed) == (None, 2, 1)
    assert said(out) == KEPT


def test_a_long_track_whose_end_shows_the_damage_fails_once_and_has_no_stems(tmp_path, tiny, local, monkeypatch):
    monkeypatch.setattr(analyze, "PATCHES_PER_PART", 1)
    (tmp_path / "songs").mkdir()
    content = write_tone(tmp_path / "songs" / "long.wav", seconds=100.0).read_bytes()
    (tmp_path / "songs" / "long.wav").write_bytes(content[: 2 * len(content) // 5])
    out = tmp_path / "out"
    summary = run_job(str(tmp_path / "songs"), str(out), model=tiny, max_failures="100%")
    assert (summary.ok, summary.failed) == (0, {"damaged": 1})
    (row,) = finished(str(out)).values()
    assert row.error == "40.0 s of 100.0 s declared, 0 of 431 packets broken"
    assert not list(out.rglob("*.flac"))


def test_a_long_track_that_is_flagged_at_its_end_is_flagged_in_its_row(tmp_path, tiny, local, monkeypatch):
    monkeypatch.setattr(analyze, "PATCHES_PER_PART", 1)
    (tmp_path / "songs").mkdir()
    content = write_tone(tmp_path / "songs" / "long.wav", seconds=60.0).read_bytes()
    (tmp_path / "songs" / "long.wav").write_bytes(content[: 9 * len(content) // 10])
    summary = run_job(str(tmp_path / "songs"), str(tmp_path / "out"), model=tiny)
    (row,) = finished(str(tmp_path / "out")).values()
    assert row.parts > 1
    assert (row.status, row.truncated, row.skipped_packets, row.source_used_ratio) == ("ok", True, 0, None)
    assert summary.ok_damaged == 1
