"""`--bad-rows`: one bad row stops no run; it fails, is told of, and is not tried again. Flows in this process."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.failures.failures import run_failures
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run import driver
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.status.status import run_status
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import index

ROWS = [
    {"uri": "300.wav", "id": "good"},
    {"uri": None, "id": "none"},
    {"uri": "300.wav", "id": "AC/DC"},
    {"uri": "300.wav", "id": "good", "duration_s": 0.1},
    {"uri": "s3://KEY:hush@bucket/x.wav"},
    {"uri": "300.wav", "offset_s": 0.1},
    {"uri": "gone.wav"},
]
BAD = 4


@pytest.fixture
def catalog(tmp_path):
    """A manifest beside its file: two rows that work, one whose file is gone, four bad ones."""
    write_tone(tmp_path / "300.wav", 300)
    (tmp_path / "songs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "songs.jsonl"


def run(catalog, tiny, **options):
    return run_job(str(catalog), model=tiny, gpus=0, stems=("vocals",), bad_rows="fail", **options)


def rows(catalog):
    return {row["id"]: row for row in index.read(str(catalog.with_suffix(".stems"))).to_pylist()}


def test_bad_rows_fail_and_the_others_are_separated(catalog, tiny, local):
    summary = run(catalog, tiny)
    assert (summary.exit_code, summary.tracks, summary.ok) == (3, len(ROWS), 2)
    assert summary.failed == {"bad_row": BAD, "not_found": 1}
    found = [row for row in rows(catalog).values() if row["error_class"] == "bad_row"]
    assert {(row["status"], row["error_stage"], row["transient"], row["attempts"]) for row in found} == {
        ("failed", "manifest", False, 1)
    }
    assert {row["error"].partition(":")[0] for row in found} == {"row 2", "row 3", "row 4", "row 5"}
    assert {row["run_id"] for row in found} == {summary.run}
    assert rows(catalog)["good"]["status"] == "ok"
    assert rows(catalog)["none"]["uri"] == ""
    written = b"".join(path.read_bytes() for path in catalog.with_suffix(".stems").rglob("*") if path.is_file())
    assert b"hush" not in written


def test_by_default_a_manifest_with_bad_rows_is_refused_and_the_way_out_is_named(catalog, tiny, local):
    with pytest.raises(errors.ManifestError, match="4 bad rows: row 2: no uri; .*--bad-rows fail"):
        run_job(str(catalog), model=tiny)
    assert not catalog.with_suffix(".stems").exists()


def test_the_same_manifest_again_does_not_do_bad_rows_again(catalog, tiny, local):
    run(catalog, tiny)
    before = rows(catalog)
    summary = run(catalog, tiny)
    assert (summary.exit_code, summary.run, summary.done_before, summary.known_failed) == (0, None, 2, BAD + 1)
    assert rows(catalog) == before
    summary = run(catalog, tiny, retry="all")
    assert summary.failed == {"bad_row": BAD, "not_found": 1}
    assert set(rows(catalog)) == set(before)


def test_a_row_that_was_corrected_is_separated_under_its_id(catalog, tiny, local):
    run(catalog, tiny)
    catalog.write_text("".join(json.dumps(row | {"uri": row["uri"] or "300.wav"}) + "\n" for row in ROWS))
    assert run(catalog, tiny).ok == 1
    assert rows(catalog)["none"]["status"] == "ok"


def test_a_manifest_of_bad_rows_alone_starts_no_flow(catalog, tiny, local):
    catalog.write_text("".join(json.dumps(row) + "\n" for row in ROWS[1:3]))
    summary = run(catalog, tiny)
    assert (summary.exit_code, summary.failed, local) == (3, {"bad_row": 2}, [])
    assert len(rows(catalog)) == 2
    assert run(catalog, tiny).known_failed == 2


@pytest.mark.parametrize(("bound", "exit_code"), [("50%", 3), ("10%", 4)])
def test_bad_rows_stop_no_run_midway_and_count_for_its_exit_code(tmp_path, tiny, local, monkeypatch, bound, exit_code):
    monkeypatch.setattr(driver, "JUDGED_FROM", 2)
    write_tone(tmp_path / "300.wav", 300, 0.1)
    table = pa.table({"uri": [None] * 12 + ["300.wav"] * 13, "offset_s": [None] * 12 + [n / 1000 for n in range(13)]})
    pyarrow.parquet.write_table(table, tmp_path / "m.parquet")
    summary = run(tmp_path / "m.parquet", tiny, max_failures=bound)
    assert (summary.exit_code, summary.ok, summary.tried) == (exit_code, 13, 13)
    assert summary.stopped == ("over --max-failures: 12 of 25 tracks failed" if exit_code == 4 else None)


def test_stems_of_bad_rows_collide_with_nothing(catalog, tiny, local):
    catalog.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:5]))
    summary = run(catalog, tiny, filename="{filename}-{stem}.{ext}")
    assert (summary.ok, summary.failed) == (1, {"bad_row": BAD})


def test_plan_counts_bad_rows_and_says_what_is_wrong_with_one(catalog, tiny):
    planned = run_plan(str(catalog), model=tiny, bad_rows="fail")
    assert planned.reasons == {"bad_row": BAD, "new": 3}
    assert planned.examples["bad_row"] == "none (row 2: no uri)"
    assert planned.todo == 3
    told = CliRunner().invoke(app, ["plan", str(catalog), "-p", tiny, "--bad-rows", "fail"]).output
    assert "bad row of the manifest, fails without being tried" in told
    catalog.write_text(json.dumps(ROWS[1]))
    told = CliRunner().invoke(app, ["plan", str(catalog), "-p", tiny, "--bad-rows", "fail"]).output
    assert "nothing to separate" in told
    assert "next: sep-batch run" in told


def test_failures_says_what_to_do_about_bad_rows_and_its_manifest_of_them_can_be_corrected(catalog, tiny, local):
    run(catalog, tiny)
    out = str(catalog.with_suffix(".stems"))
    report = run_failures(out, error_class="bad_row", to=str(catalog.parent / "bad.jsonl"))
    assert report.failed == BAD
    told = CliRunner().invoke(app, ["failures", out]).output
    assert "bad_row: invalid rows of the manifest: correct them" in told
    assert (
        run(catalog.parent / "bad.jsonl", tiny, out=out, retry="all").ok == 2
    )  # ids of their own make AC/DC and the repeated one good


def test_status_counts_bad_rows_as_failed_and_none_as_tried(catalog, tiny, local):
    run(catalog, tiny)
    status = run_status(str(catalog.with_suffix(".stems")))
    assert (status.done, status.failed) == (2, {"bad_row": BAD, "not_found": 1})
    assert (status.tried, status.tried_failed, status.pending) == (3, 1, 0)


def test_events_tell_of_bad_rows_after_the_start(catalog, tiny, local):
    told = CliRunner().invoke(app, ["run", str(catalog), "-p", tiny, "--bad-rows", "fail", "--json"])
    events = [json.loads(line) for line in told.stdout.splitlines()]
    named = [event["event"] for event in events if event["event"] != "progress"]
    assert named == ["start", *["failed"] * (BAD + 1), "summary"]
    assert {event["class"] for event in events if event["event"] == "failed"} == {"bad_row", "not_found"}


def test_a_list_with_bad_rows_makes_no_manifest_and_names_no_flag_that_is_not_there(catalog):
    told = CliRunner().invoke(app, ["manifest", str(catalog), "-o", str(catalog.parent / "m.parquet")])
    assert told.exit_code == 5
    assert "4 bad rows: row 2: no uri" in told.output
    assert "--bad-rows" not in told.output
    assert not storage.exists(str(catalog.parent / "m.parquet"))
