"""`run`, its rules and exit codes, with flows in this process: what Ray adds is in test_ray.py."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import finished, stems_below, write_tone
from signals import RATE_HZ

from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run import driver
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup import stop
from sep_batch.jobs.setup.options import MaxFailures
from sep_batch.jobs.setup.stem_layout import default_out
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.flow.local_flow import LocalFlow
from sep_batch.pipeline.out import index, layout, lease
from sep_batch.pipeline.stages import analyze, stems
from sep_batch.pipeline.stages import context as work
from sep_batch.pipeline.storage import retries


@pytest.fixture
def catalog(tmp_path):
    """A manifest of three tones beside its files."""
    for hz in (300, 500, 700):
        write_tone(tmp_path / "songs" / f"{hz}.wav", hz)
    table = pa.table({"uri": [f"songs/{hz}.wav" for hz in (300, 500, 700)], "artist": ["A", "B", "A"]})
    pyarrow.parquet.write_table(table, tmp_path / "songs.parquet")
    return tmp_path / "songs.parquet"


def rows(out):
    """Return the index's rows by file name."""
    return {row["uri"].rpartition("/")[2]: row for row in index.read(str(out)).to_pylist()}


def test_a_run_leaves_a_row_and_every_stem_for_every_track(catalog, tiny, local):
    summary = run_job(str(catalog), model=tiny)
    out = catalog.parent / "songs.stems"
    assert (summary.exit_code, summary.ok, summary.out) == (0, 3, str(out))
    found = rows(out)
    assert set(found) == {"300.wav", "500.wav", "700.wav"}
    assert {row["status"] for row in found.values()} == {"ok"}
    assert found["500.wav"]["artist"] == "B"
    for row in found.values():
        assert [stem["stem"] for stem in row["stems"]] == ["vocals", "accompaniment"]
        for stem in row["stems"]:
            assert (out / stem["uri"]).stat().st_size == stem["bytes"]
            assert stem["frames"] == RATE_HZ // 2


def test_nothing_of_a_run_is_left_but_stems_index_journal_lease_record_and_run_json(catalog, tiny, local):
    run_job(str(catalog), model=tiny)
    out = catalog.parent / "songs.stems"
    files = {path.relative_to(out).parts[0:2] for path in out.rglob("*") if path.is_file()}
    expected = {("index.parquet",), ("_sep", "journal"), ("_sep", "lease"), ("_sep", "run.json"), ("_sep", "runs")}
    assert {parts for parts in files if parts[0] != "stems"} == expected


def test_the_same_command_again_separates_nothing(catalog, tiny, local):
    run_job(str(catalog), model=tiny)
    out = catalog.parent / "songs.stems"
    before = (out / "index.parquet").read_bytes(), stems_below(out)
    summary = run_job(str(catalog), model=tiny)
    assert (summary.exit_code, summary.run, summary.done_before) == (0, None, 3)
    assert len(local) == 1
    assert ((out / "index.parquet").read_bytes(), stems_below(out)) == before


def test_a_new_track_alone_is_separated_and_the_others_stay(catalog, tiny, local):
    run_job(str(catalog), model=tiny, limit=2)
    summary = run_job(str(catalog), model=tiny)
    assert (summary.done_before, summary.ok) == (2, 1)
    assert len(rows(catalog.parent / "songs.stems")) == 3


def test_a_second_manifest_adds_rows_and_removes_none(catalog, tiny, local, tmp_path):
    out = tmp_path / "out"
    run_job(str(catalog), str(out), model=tiny)
    other = write_tone(tmp_path / "more" / "900.wav", 900)
    run_job(str(other), str(out), model=tiny)
    assert set(rows(out)) == {"300.wav", "500.wav", "700.wav", "900.wav"}


def test_a_bad_track_is_a_failed_row_and_exit_3(catalog, tiny, local):
    (catalog.parent / "songs" / "500.wav").write_bytes(b"not audio at all")
    summary = run_job(str(catalog), model=tiny)
    assert (summary.exit_code, summary.ok, summary.failed) == (3, 2, {"unsupported_format": 1})
    row = rows(catalog.parent / "songs.stems")["500.wav"]
    assert (row["status"], row["error_stage"], row["transient"], row["attempts"]) == ("failed", "decode", False, 1)


def test_ok_with_failures_makes_it_exit_0(catalog, tiny, local):
    (catalog.parent / "songs" / "500.wav").unlink()
    assert run_job(str(catalog), model=tiny, ok_with_failures=True).exit_code == 0


def test_a_known_permanent_failure_is_not_tried_again_and_is_exit_0(catalog, tiny, local):
    (catalog.parent / "songs" / "500.wav").unlink()
    run_job(str(catalog), model=tiny)
    summary = run_job(str(catalog), model=tiny)
    assert (summary.exit_code, summary.known_failed, summary.tried) == (0, 1, 0)


def test_retry_all_tries_permanent_failures_again(catalog, tiny, local):
    gone = catalog.parent / "songs" / "500.wav"
    kept = gone.read_bytes()
    gone.unlink()
    run_job(str(catalog), model=tiny)
    gone.write_bytes(kept)
    summary = run_job(str(catalog), model=tiny, retry="all")
    assert (summary.ok, summary.done_before) == (1, 2)
    assert rows(catalog.parent / "songs.stems")["500.wav"]["attempts"] == 2


def test_other_settings_are_refused_with_their_names(catalog, tiny, local):
    run_job(str(catalog), model=tiny)
    with pytest.raises(
        errors.SettingsDifferError, match="--bit-depth: OUT has 16, this run has float; --format: OUT has flac"
    ) as refused:
        run_job(str(catalog), model=tiny, format="wav", bit_depth="float")
    assert refused.value.exit_code == 6


def test_overwrite_separates_again_what_other_settings_made(catalog, tiny, local):
    run_job(str(catalog), model=tiny)
    summary = run_job(str(catalog), model=tiny, format="wav", overwrite=True)
    assert (summary.ok, summary.done_before) == (3, 0)
    codecs = {stem["codec"] for row in rows(catalog.parent / "songs.stems").values() for stem in row["stems"]}
    assert codecs == {"pcm_s16le"}
    assert run_job(str(catalog), model=tiny, format="wav").done_before == 3


def test_a_killed_overwrite_leaves_no_old_track_marked_done(catalog, tiny, local):
    run_job(str(catalog), model=tiny)
    run_job(str(catalog), model=tiny, format="wav", overwrite=True, limit=1)
    summary = run_job(str(catalog), model=tiny, format="wav")
    assert (summary.done_before, summary.ok) == (1, 2)


def test_too_many_failures_are_exit_4(tmp_path, tiny, local):
    uris = [f"{number}.wav" for number in range(20)]
    pyarrow.parquet.write_table(pa.table({"uri": uris}), tmp_path / "gone.parquet")
    summary = run_job(str(tmp_path / "gone.parquet"), model=tiny)
    assert (summary.exit_code, summary.failed) == (4, {"not_found": 20})
    assert run_job(str(tmp_path / "gone.parquet"), str(tmp_path / "b"), model=tiny, max_failures="20").exit_code == 3


def test_below_20_tracks_failures_stop_nothing():
    few, many = (Summary("out", tracks, failed=Counter(not_found=tracks)) for tracks in (19, 20))
    for summary in (few, many):
        summary.judge(MaxFailures.parse("5%"), ok_with_failures=False)
    assert (few.exit_code, many.exit_code) == (3, 4)


def test_a_run_is_stopped_midway_once_200_tracks_show_too_many_failures(tmp_path, tiny, local):
    uris = [f"{number}.wav" for number in range(300)]
    pyarrow.parquet.write_table(pa.table({"uri": uris}), tmp_path / "gone.parquet")
    summary = run_job(str(tmp_path / "gone.parquet"), model=tiny)
    assert (summary.exit_code, summary.tried) == (4, 200)


def test_a_track_lost_with_its_process_three_times_is_worker_crash_and_the_others_are_ok(catalog, tiny, local, monkeypatch):
    whole = LocalFlow.rows

    def lossy(flow):
        return (row for row in whole(flow) if not row.column("uri")[0].as_py().endswith("500.wav"))

    monkeypatch.setattr(LocalFlow, "rows", lossy)
    summary = run_job(str(catalog), model=tiny)
    assert (summary.exit_code, summary.ok, summary.failed) == (3, 2, {"worker_crash": 1})
    assert [resources.analyze.tasks for resources in local] == [None, None, 1]


def test_where_every_track_is_lost_the_run_ends_and_marks_none(catalog, tiny, local, monkeypatch):
    monkeypatch.setattr(LocalFlow, "rows", lambda _flow: iter(()))
    with pytest.raises(errors.NotRunnableError, match="none of 3 tracks"):
        run_job(str(catalog), model=tiny)
    assert not (catalog.parent / "songs.stems" / "index.parquet").exists()


def test_a_track_lost_once_is_separated_in_the_next_pass(catalog, tiny, local, monkeypatch):
    whole = LocalFlow.rows

    def lossy(flow):
        lost = len(local) == 1
        return (row for row in whole(flow) if not (lost and row.column("uri")[0].as_py().endswith("500.wav")))

    monkeypatch.setattr(LocalFlow, "rows", lossy)
    assert run_job(str(catalog), model=tiny).ok == 3


def test_a_bug_in_a_stage_is_raised_with_its_track_and_loses_no_finished_row(catalog, tiny, local, monkeypatch):
    def broken(*arguments, **options):
        if (tmp := catalog.parent / "second").exists():
            raise KeyError("planted")
        tmp.touch()
        return whole(*arguments, **options)

    whole = stems.write
    monkeypatch.setattr(stems, "write", broken)
    with pytest.raises(errors.BugError, match="planted") as stopped:
        run_job(str(catalog), model=tiny)
    assert stopped.value.exit_code == 1
    assert "bug" in {row["error_class"] for row in rows(catalog.parent / "songs.stems").values()}


def test_a_signal_ends_the_run_in_order_and_the_same_command_resumes(catalog, tiny, local, monkeypatch):
    taken = analyze.Analyze.__call__
    monkeypatch.setattr(work, "_exists", lambda uri, _time: storage.exists(uri))

    def signalled(self, block):
        yield from taken(self, block)
        if not storage.exists(self.work.stop_uri):
            os.kill(os.getpid(), signal.SIGTERM)
        while not storage.exists(self.work.stop_uri):  # until the driver has seen it
            time.sleep(0.02)

    monkeypatch.setattr(analyze.Analyze, "__call__", signalled)
    summary = run_job(str(catalog), model=tiny)
    assert (summary.exit_code, summary.tried) == (7, 1)
    assert "stopped by SIGTERM; run the same command again" in summary.stopped
    monkeypatch.setattr(analyze.Analyze, "__call__", taken)
    assert run_job(str(catalog), model=tiny).done_before == 1


def test_what_is_in_flight_has_its_time_and_no_more(catalog, tiny, local, monkeypatch):
    monkeypatch.setattr(stop, "DRAIN_S", 0.5)
    monkeypatch.setattr(LocalFlow, "rows", lambda *_: iter(lambda: time.sleep(0.1), 1))
    begun = time.monotonic()
    summary = run_job(str(catalog), model=tiny, deadline="1s")
    assert (summary.exit_code, summary.ok) == (7, 0)
    assert "deadline" in summary.stopped
    assert 0.5 <= time.monotonic() - begun < 10


def test_a_second_signal_leaves_at_once_and_publishes_nothing(catalog, tiny, local, monkeypatch):
    def signalled(_flow):
        for _ in range(2):
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
        yield None

    monkeypatch.setattr(LocalFlow, "rows", signalled)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_job(str(catalog), model=tiny)
    assert time.monotonic() - begun < 15
    assert not (catalog.parent / "songs.stems" / "index.parquet").exists()


def test_another_run_on_the_same_out_is_told_so(catalog, tiny, local):
    out = str(catalog.parent / "songs.stems")
    with lease.hold(out), pytest.raises(errors.LeaseHeldError, match="has been working on it since") as caught:
        run_job(str(catalog), model=tiny)
    assert caught.value.exit_code == 75
    assert run_job(str(catalog), model=tiny).ok > 0


def test_a_run_that_was_taken_over_commits_nothing_more(catalog, tiny, local, monkeypatch):
    out, whole = str(catalog.parent / "songs.stems"), LocalFlow.rows

    def overtaken(flow):
        yield from whole(flow)
        storage.create(f"{layout.lease_folder(out)}/000002.json", b"{}")

    monkeypatch.setattr(LocalFlow, "rows", overtaken)
    with pytest.raises(errors.LeaseHeldError, match="took it over"):
        run_job(str(catalog), model=tiny)
    assert finished(out) == {}


def test_an_overwriting_run_that_is_cut_short_leaves_nothing_of_the_old_settings_marked_done(catalog, tiny, local, monkeypatch):
    out, whole = str(catalog.parent / "songs.stems"), LocalFlow.rows
    run_job(str(catalog), model=tiny)
    monkeypatch.setattr(LocalFlow, "rows", lambda flow: itertools.islice(whole(flow), 1))
    monkeypatch.setattr(driver, "PASSES", 1)
    monkeypatch.setattr(driver.Driver, "_give_up", lambda *_: None)  # as if the process had died
    run_job(str(catalog), model=tiny, bit_depth="24", overwrite=True)
    monkeypatch.setattr(LocalFlow, "rows", whole)
    with pytest.raises(errors.SettingsDifferError, match="--bit-depth: OUT has 24, this run has 16"):
        run_job(str(catalog), model=tiny)
    again = run_job(str(catalog), model=tiny, bit_depth="24")
    assert (again.done_before, again.ok) == (1, 2)
    assert len({row["settings_sha256"] for row in rows(out).values()}) == 1
    assert {stem["bytes"] for row in rows(out).values() for stem in row["stems"]} == {
        len(content) for content in stems_below(catalog.parent / "songs.stems").values()
    }


def test_a_full_disk_ends_the_run_marks_no_track_and_the_same_command_goes_on(catalog, tiny, local, monkeypatch):
    out, put = str(catalog.parent / "songs.stems"), storage.put
    written = []

    def full(uri, content, **options):
        written.append(uri)
        if len([one for one in written if "/stems/" in one]) > 2 and "/lease/" not in uri:
            raise retries.write_error(uri, OSError(errno.ENOSPC, "No space left on device"))
        put(uri, content, **options)

    monkeypatch.setattr(storage, "put", full)
    with pytest.raises(errors.NotRunnableError, match="No space left on device"):
        run_job(str(catalog), model=tiny)
    assert {row.status for row in finished(out).values()} <= {"ok"}
    monkeypatch.setattr(storage, "put", put)
    again = run_job(str(catalog), model=tiny)
    assert (again.exit_code, again.done_before + again.ok) == (0, 3)


def test_a_weights_file_that_was_changed_is_refused(catalog, tiny, local, tmp_path):
    folder = tmp_path / "changed"
    folder.mkdir()
    (folder / "weights.sha256").write_text("0" * 64)
    (folder / "model.safetensors").write_bytes((tmp_path / tiny / "model.safetensors").read_bytes())
    with pytest.raises(errors.NotRunnableError, match="sha256 of the weights .* expected 0000"):
        run_job(str(catalog), model=str(folder))


def test_run_json_holds_settings_versions_and_the_manifest(catalog, tiny, local):
    summary = run_job(str(catalog), model=tiny)
    described = json.loads((catalog.parent / "songs.stems" / "_sep" / "run.json").read_text())
    assert described["run"] == summary.run
    assert described["manifest"]["uri"] == str(catalog)
    assert {"torch", "ray", "sep-batch"} <= described["versions"].keys()
    assert described["settings"]["spec"]["stems"] == ["vocals", "accompaniment"]


def test_spleeters_layout_can_be_asked_for(catalog, tiny, local):
    run_job(str(catalog), model=tiny, filename="{filename}/{instrument}.{codec}", format="wav")
    stems = set(stems_below(catalog.parent / "songs.stems"))
    assert {"stems/300/vocals.wav", "stems/700/accompaniment.wav"} <= stems


def test_two_tracks_with_one_path_are_refused_before_the_start(tmp_path, tiny, local):
    for folder in ("a", "b"):
        write_tone(tmp_path / "in" / folder / "mix.wav")
    with pytest.raises(errors.UsageError, match="add {id}"):
        run_job(str(tmp_path / "in"), model=tiny, filename="{filename}/{stem}.{ext}")
    assert not local


def test_a_folder_and_a_file_stand_for_a_manifest(catalog, tiny, local, tmp_path):
    assert run_job(str(catalog.parent / "songs"), str(tmp_path / "a"), model=tiny).ok == 3
    assert run_job(str(catalog.parent / "songs" / "300.wav"), str(tmp_path / "b"), model=tiny).ok == 1


def test_a_file_of_a_folder_that_has_changed_is_separated_again_and_no_other(catalog, tiny, local, tmp_path):
    folder, out = str(catalog.parent / "songs"), str(tmp_path / "out")
    assert (run_job(folder, out, model=tiny).ok, run_job(folder, out, model=tiny).done_before) == (3, 3)
    write_tone(catalog.parent / "songs" / "300.wav", 310)
    again = run_job(folder, out, model=tiny)
    assert (again.ok, again.done_before) == (1, 2)


@pytest.mark.parametrize(
    ("source", "out"),
    [("/a/songs.parquet", "/a/songs.stems"), ("s3://b/k/songs.csv", "s3://b/k/songs.stems"), ("/a/songs", "/a/songs.stems")],
)
def test_out_is_beside_the_source_by_default(source, out):
    assert default_out(source) == out


def test_the_index_opens_in_pyarrow_pandas_and_duckdb(catalog, tiny, local):
    import duckdb
    import pandas as pd

    run_job(str(catalog), model=tiny)
    path = catalog.parent / "songs.stems" / "index.parquet"
    assert pyarrow.parquet.read_table(path).num_rows == 3
    assert pd.read_parquet(path).loc[0, "stems"][0]["stem"] == "vocals"
    told = duckdb.sql(f"SELECT count(*), min(s.frames) FROM '{path}', unnest(stems) AS t(s)").fetchall()
    assert told == [(6, RATE_HZ // 2)]


def test_same_samples_give_the_same_stems_in_any_out(catalog, tiny, local, tmp_path):
    for name in ("a", "b"):
        run_job(str(catalog), str(tmp_path / name), model=tiny)
    assert stems_below(tmp_path / "a") == stems_below(tmp_path / "b")
