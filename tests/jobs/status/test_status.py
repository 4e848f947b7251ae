"""`status`: what is said of an OUT while a run is at work, after it, and where it is no OUT; nothing is written."""

from __future__ import annotations

import hashlib
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.status.report import lines
from sep_batch.jobs.status.status import run_status
from sep_batch.pipeline import manifest, storage
from sep_batch.pipeline.out import layout, lease
from sep_batch.pipeline.out.plan import write_plan
from sep_batch.pipeline.rows import JOURNAL

RUN = "000001-abcd"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def journal(out, *rows, run=RUN, number=0):
    """Write one journal file of these rows."""
    filled = [dict.fromkeys(JOURNAL.names) | {"status": "ok", "run_id": run, "finished_at": NOW} | row for row in rows]
    path = Path(out) / "_sep" / "journal" / f"{run}-{number:06d}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(filled, JOURNAL), path)


def hold(out, *, age_s=0.0, **says):
    """Write a lease as another machine's run does, or did so long ago."""
    told = {"run": RUN, "host": "gpu7", "pid": 4711, "since": "2026-11-23T11:00:00+00:00", "at": datetime.now(UTC).isoformat()}
    path = Path(out) / "_sep" / "lease" / "000001.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told | says))
    os.utime(path, (time.time() - age_s,) * 2)


def plan(out, tracks):
    """Write the plan of a run with so many tracks."""
    table = pa.table({"id": [f"t{place}" for place in range(tracks)]})
    folder = f"{layout.plan_folder(str(out), RUN)}/0"
    return write_plan([table], storage.put, folder, rows_per_file=64)


def words(status):
    return "\n".join(lines(status, NOW))


@pytest.fixture
def at_work(tmp_path):
    """An OUT that a run on another machine works on: 200 tracks planned, 21 of them done, 6 s apart, 2 failed."""
    hold(tmp_path)
    plan(tmp_path, 200)
    done = [{"id": f"t{n}", "audio_s": 240.0, "finished_at": NOW + timedelta(seconds=6 * n)} for n in range(19)]
    failed = [
        {"id": f"t{n}", "status": "failed", "error_class": name, "finished_at": NOW + timedelta(seconds=6 * n)}
        for n, name in ((19, "not_found"), (20, "decode_error"))
    ]
    journal(tmp_path, *done, *failed)
    return tmp_path


def test_a_running_run_is_told_with_what_it_has_done_its_rate_and_its_end(at_work):
    status = run_status(str(at_work))
    assert (status.state, status.run, status.host, status.pid) == ("running", RUN, "gpu7", 4711)
    assert (status.done, status.failed, status.planned, status.pending) == (19, {"not_found": 1, "decode_error": 1}, 200, 179)
    assert status.heartbeat_s == pytest.approx(0, abs=5)
    assert status.tracks_a_minute == pytest.approx(10)
    assert status.audio_s_a_minute == pytest.approx(19 * 240 * 20 / 21 / 2)
    assert status.eta_s == pytest.approx(17.9 * 60)
    assert "running since 2026-11-23 11:00:00 UTC (60 min): run 000001-abcd on gpu7, pid 4711" in words(status)
    assert "179 of the 200 tracks of this run" in words(status)
    assert "18 min, at 2026-11-23 12:17 UTC" in words(status)


def test_the_rate_is_that_of_the_last_minutes_not_of_the_whole_run(at_work):
    before = [{"id": f"u{n}", "audio_s": 240.0, "finished_at": NOW - timedelta(hours=1, seconds=n)} for n in range(100)]
    journal(at_work, *before, number=1)
    assert run_status(str(at_work)).tracks_a_minute == pytest.approx(10)


@pytest.mark.parametrize("tracks", [1, 63, 64, 65, 200])
def test_a_plans_size_is_known_from_two_of_its_files(tracks, tmp_path):
    hold(tmp_path)
    files = plan(tmp_path, tracks)
    assert run_status(str(tmp_path)).planned == tracks
    for file in files[1:-1]:
        Path(file).write_bytes(b"")
    assert run_status(str(tmp_path)).planned == tracks


def test_a_run_that_ends_while_its_plan_is_read_is_told_as_ended(at_work, monkeypatch):
    read, plan_folder = storage.read, layout.plan_folder(str(at_work), RUN)

    def ending(uri):
        if uri.startswith(plan_folder):
            hold(at_work, ended=True)
            storage.remove(plan_folder)
        return read(uri)

    monkeypatch.setattr(storage, "read", ending)
    status = run_status(str(at_work))
    assert (status.state, status.done, status.tried) == ("ended", 19, 21)


def test_tracks_of_earlier_runs_count_as_done_but_not_as_tried(at_work):
    hold(at_work, run="000002-beef")
    os.rename(at_work / "_sep" / "plan" / RUN, at_work / "_sep" / "plan" / "000002-beef")
    status = run_status(str(at_work))
    assert (status.done, status.tried, status.pending, status.eta_s) == (19, 0, 200, None)


def test_a_heartbeat_that_is_long_past_is_told_as_doubt_and_gives_no_end(at_work):
    hold(at_work, age_s=lease.DEAD_S + 30)
    status = run_status(str(at_work))
    assert (status.state, status.pending, status.eta_s) == ("silent", 179, None)
    assert "perhaps running" in words(status)
    assert "heartbeat 2 min ago" in words(status) or "heartbeat 120 s ago" in words(status)


def test_a_storage_whose_clock_is_ahead_is_named(at_work):
    hold(at_work, age_s=-40)
    assert "heartbeat 40 s in the future: the clocks of storage and this machine differ" in words(run_status(str(at_work)))


def test_a_run_whose_process_is_gone_from_this_machine_is_not_running(at_work):
    hold(at_work, machine=lease._machine(), pid=1 << 30, born=5)
    status = run_status(str(at_work))
    assert status.state == "gone"
    assert "not running: the run on gpu7, pid 1073741824 died (" in words(status)


def test_a_run_that_has_only_taken_the_lease_is_starting(tmp_path):
    hold(tmp_path)
    status = run_status(str(tmp_path))
    assert (status.state, status.pending, status.done) == ("running", None, 0)
    assert "unknown: the run has no plan yet" in words(status)


@pytest.fixture
def ran(tiny, local, tmp_path):
    """A manifest of three files, one of them missing, and its OUT after a run."""
    for hz in (300, 500):
        write_tone(tmp_path / f"{hz}.wav", hz, 0.2)
    (tmp_path / "songs.csv").write_text("where,uri\n300.wav,a\n500.wav,b\n700.wav,c\n")
    run_job(str(tmp_path / "songs.csv"), model=tiny, uri_column="where")
    return tmp_path / "songs.stems"


def test_after_a_run_what_is_pending_is_what_the_next_run_would_do(ran):
    status = run_status(str(ran))
    assert (status.state, status.done, status.failed) == ("ended", 2, {"not_found": 1})
    assert (status.planned, status.pending, status.tried, status.tried_failed) == (3, 0, 3, 1)
    assert (status.model, status.format) == ("2stems", "flac")
    for file in (ran / "_sep" / "journal").glob("*"):
        file.unlink()
    assert run_status(str(ran)).pending == 3


def test_after_a_run_with_a_limit_what_is_pending_is_of_its_first_tracks_and_the_others_are_named(ran, tiny):
    def status_after(limit):
        run_job(str(ran.parent / "songs.csv"), str(ran.parent / "few"), model=tiny, uri_column="where", limit=limit)
        return run_status(str(ran.parent / "few"))

    status = status_after(1)
    assert (status.done, status.planned, status.pending, status.limit, status.listed) == (1, 1, 0, 1, 3)
    expected = "0 of the manifest's first 1 tracks, for the next run; --limit 1 leaves out 2 of the manifest's 3 tracks"
    assert f"pending  {expected}" in words(status)
    hold(ran.parent / "few")
    plan(ran.parent / "few", 1)
    assert "tracks of this run; --limit 1 leaves out 2 of the manifest's 3 tracks" in words(run_status(str(ran.parent / "few")))
    (ran.parent / "few" / "_sep" / "lease" / "000001.json").unlink()
    for limit in (3, None):
        assert "0 of the manifest's 3 tracks, for the next run\n" in words(status_after(limit))


def test_where_the_manifest_has_changed_or_is_gone_pending_is_not_known_and_why(ran):
    listed = ran.parent / "songs.csv"
    listed.write_text("where\n300.wav\n")
    assert "pending  unknown: manifest" in words(run_status(str(ran)))
    assert "has changed since the last run" in words(run_status(str(ran)))
    listed.unlink()
    status = run_status(str(ran))
    assert (status.pending, status.done) == (None, 2)
    assert "songs.csv: not found" in status.unknown


def test_status_writes_nothing(ran):
    before = {path: path.stat().st_mtime_ns for path in ran.rglob("*")}
    run_status(str(ran))
    assert {path: path.stat().st_mtime_ns for path in ran.rglob("*")} == before


def test_on_the_command_line_in_words_and_as_json(ran):
    told = call("status", ran)
    assert (told.exit_code, told.output.splitlines()[1]) == (0, "done     2 tracks, 0.4 s of audio")
    assert json.loads(call("status", ran, "--json").stdout)["failed"] == {"not_found": 1}


def test_of_object_storage_too(ran, s3):
    for path in (path for path in ran.rglob("*") if path.is_file()):
        storage.put(f"{s3}/status/{path.relative_to(ran)}", path.read_bytes())
    told = json.loads(call("status", f"{s3}/status/", "--json").stdout)
    assert (told["done"], told["pending"]) == (2, 0)


@pytest.mark.parametrize("path", ["nowhere", "songs.csv", "empty"])
def test_what_is_no_out_is_exit_5_in_one_line(ran, path):
    (ran.parent / "empty").mkdir()
    told = call("status", ran.parent / path)
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1)
    assert told.output.startswith(f"error: OUT {ran.parent / path}: ")


def test_a_journal_file_or_a_run_json_that_cannot_be_read_is_exit_5_in_one_line(ran):
    (ran / "_sep" / "run.json").write_text("[1]")
    assert "run.json: not valid (" in call("status", ran).output
    (ran / "_sep" / "run.json").write_text('{"settings": {}}')
    next((ran / "_sep" / "journal").glob("*")).write_bytes(b"PAR1")
    told = call("status", ran)
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1)
    assert "verify OUT --repair sets it aside" in told.output


def test_no_permission_is_exit_5_in_one_line(ran, monkeypatch):
    def refused(_uri):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage.reading.LocalFileSystem, "cat_file", lambda _self, path: refused(path))
    told = call("status", ran)
    assert (told.exit_code, len(told.output.splitlines())) == (5, 1)
    assert "access denied" in told.output


def many(folder, tracks, done, rows_a_file=250):
    """Write an OUT midway through a run of so many tracks: manifest, plan, lease, run.json, and a journal of what is done."""
    out, uris = folder / "songs.stems", [f"s3://catalog/artist {n % 997}/{n:07d} song.mp3" for n in range(tracks)]
    ids = [f"track-{n:07d}" for n in range(tracks)]
    pyarrow.parquet.write_table(pa.table({"uri": uris, "id": ids}), folder / "songs.parquet")
    stem = {
        "uri": "stems/ab/track-0000000/vocals.flac",
        "codec": "flac",
        "bytes": 9_000_000,
        "sha256": "5" * 64,
        "frames": 1 << 23,
    }
    one = dict.fromkeys(JOURNAL.names) | {
        "status": "ok",
        "run_id": RUN,
        "finished_at": NOW,
        "audio_s": 240.0,
        "settings_sha256": "a" * 64,
        "attempts": 1,
        "stems": [stem | {"stem": "vocals"}, stem | {"stem": "accompaniment"}],
    }
    lost = one | {"status": "failed", "error_class": "not_found", "stems": None, "audio_s": None}
    alike = pa.Table.from_pylist([lost, *[one] * (rows_a_file - 1)], JOURNAL)
    (out / "_sep" / "journal").mkdir(parents=True)
    for number, start in enumerate(range(0, done, rows_a_file)):
        named = alike.set_column(0, "id", [ids[start : start + rows_a_file]])
        named = named.set_column(1, "uri", [uris[start : start + rows_a_file]])
        times = [NOW + timedelta(seconds=0.1 * (start + place)) for place in range(rows_a_file)]
        place = JOURNAL.names.index("finished_at")
        named = named.set_column(place, JOURNAL.field(place), pa.array(times, JOURNAL.field(place).type))
        pyarrow.parquet.write_table(named, out / "_sep" / "journal" / f"{RUN}-{number:06d}.parquet")
    hold(out)
    write_plan([manifest.read(str(folder / "songs.parquet")).tracks], storage.put, f"{out}/_sep/plan/{RUN}/0", rows_per_file=64)
    sha256 = hashlib.sha256((folder / "songs.parquet").read_bytes()).hexdigest()
    described = {
        "settings": {},
        "settings_sha256": "a" * 64,
        "manifest": {"uri": str(folder / "songs.parquet"), "sha256": sha256},
    }
    (out / "_sep" / "run.json").write_text(json.dumps(described))
    return out


@pytest.mark.slow
def test_an_out_of_100_000_tracks_is_told_in_5_seconds_of_work_while_a_run_is_at_work_and_after_it(tmp_path):
    out = many(tmp_path, 100_000, 99_000)
    for ended, pending in ((False, 1_000), (True, 1_000)):
        hold(out, ended=ended)
        begun = time.process_time()
        status = run_status(str(out))
        assert (status.done, status.failed, status.pending) == (99_000 - 396, {"not_found": 396}, pending)
        assert time.process_time() - begun < 5
