"""`status --history`: the runs of an OUT from their records, and what is known of those that left none."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import older_outs
import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.status.history import run_history
from sep_batch.jobs.status.history_report import COLUMNS, lines
from sep_batch.pipeline import errors

WORKED = {
    "run": "000007-abcd",
    "started": "2026-11-23T22:00:07+00:00",
    "ended": "2026-11-24T05:31:00+00:00",
    "exit_code": 0,
    "error": None,
    "stopped": None,
    "ok": 1204,
    "failed": {"not_found": 2, "decode_error": 1},
    "left": 0,
    "audio_s": 306_720.0,
    "seconds": 9100.0,
    "job_s": 9120.0,
    "forecast_s": 8600.0,
    "engine": "ray",
    "device": "cuda",
}


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def put(path, content):
    """Write a file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def out(tmp_path):
    """An OUT that has a run.json, and no runs yet."""
    put(tmp_path / "out" / "_sep" / "run.json", {"settings": {}})
    return tmp_path / "out"


def add(out, name="000007-abcd", **fields):
    """Write a record."""
    put(out / "_sep" / "runs" / f"{name}.json", WORKED | {"run": name} | fields)


def hold(out, **says):
    """Write a lease of another machine's run."""
    put(out / "_sep" / "lease" / "000001.json", {"run": "000009-beef", "host": "gpu7", "pid": 4711} | says)


def states(out, **options):
    return [(run.name, run.state) for run in run_history(str(out), **options).runs]


def test_three_runs_are_shown_newest_first(tmp_path, tiny, local):
    folder = tmp_path / "songs"
    write_tone(folder / "a.wav", 300)
    (folder / "b.wav").write_bytes(b"no audio")
    first = run_job(str(folder), model=tiny)
    write_tone(folder / "b.wav", 500)
    second = run_job(str(folder), model=tiny)
    run_job(str(folder), model=tiny)
    text = call("status", f"{folder}.stems", "--history").stdout.splitlines()
    assert text[0].split() == ["when", "(UTC)", "run", "ok", "failed", "left", "audio", "h", "took", "speed"]
    assert [line.split()[2:6] for line in text[1::2]] == [
        ["-", "0", "0", "0"],
        [second.run, "1", "0", "0"],
        [first.run, "1", "1", "0"],
    ]
    assert text[2::2] == ["  exit 0: nothing to do", "  exit 0: ok; local on cpu", "  exit 3: some tracks failed; local on cpu"]
    told = json.loads(call("status", f"{folder}.stems", "--history", "--json").stdout)
    assert told["count"] == 3
    assert [run["record"]["run"] for run in told["runs"]] == [None, second.run, first.run]
    assert {run["record"]["settings_sha256"] for run in told["runs"]} == {told["runs"][0]["record"]["settings_sha256"]}


def test_a_row_has_the_numbers_of_the_run_its_end_and_how_far_the_forecast_was_off(out):
    add(out)
    _, row, end = lines(run_history(str(out)))
    assert row.split() == ["2026-11-23", "22:00", "000007-abcd", "1204", "3", "0", "85.2", "2", "h", "32", "min", "33.7", "x"]
    assert end == "  exit 0: ok; ray on cuda; forecast 2 h 23 min, took +6 %"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"exit_code": 7, "stopped": "stopped by SIGTERM; run the same command again to resume"},
            "exit 7: stopped by SIGTERM; ray",
        ),
        (
            {"exit_code": 5, "error": "OUT s3://b/x: could not be written (403)"},
            "exit 5: OUT s3://b/x: could not be written (403)",
        ),
        ({"exit_code": 0, "run": None, "engine": ""}, "exit 0: nothing to do"),
        ({"exit_code": 99}, "exit 99: no reason recorded"),
    ],
)
def test_an_end_is_told_in_words(fields, words, out):
    add(out, **({"forecast_s": None} | fields))
    assert words in list(lines(run_history(str(out))))[2]


def test_the_table_of_a_catalog_of_ten_million_tracks_fits_80_columns(out):
    counts = {"ok": 9_999_999, "failed": {"not_found": 100_000}, "left": 9_999_999, "audio_s": 36e8 / 1.5, "job_s": 99 * 86_400.0}
    add(out, **counts, seconds=3e5, exit_code=5, error=f"storage: s3://bucket/{'x' * 300}/a.wav: access denied")
    assert max(map(len, lines(run_history(str(out))))) <= COLUMNS


def test_a_run_that_left_no_record_is_shown_with_what_journal_and_lease_know(out):
    add(out)
    for name in ("000008-dead-000000", "000008-dead-000004-000001", "000009-beef-000000"):
        put(out / "_sep" / "journal" / f"{name}.parquet", "not even read")
    hold(out, ended=True)
    assert states(out) == [("000009-beef", "unknown"), ("000008-dead", "unknown"), ("000007-abcd", "ended")]
    hold(out)
    assert states(out)[0] == ("000009-beef", "running")
    os.utime(out / "_sep" / "lease" / "000001.json", (0, 0))
    assert states(out)[0] == ("000009-beef", "silent")
    add(out, "000009-beef")
    assert states(out)[0] == ("000009-beef", "ended")


def test_a_killed_run_of_this_machine_is_told_even_if_none_of_its_tracks_had_finished(out):
    from sep_batch.pipeline.out import lease

    hold(out, machine=lease._machine(), pid=2**22 + 1, born=1)
    assert states(out) == [("000009-beef", "gone")]
    assert list(lines(run_history(str(out))))[2] == "  killed: its process is gone"


def test_runs_of_an_older_version_are_named_and_the_next_run_is_recorded(tmp_path, tiny, local):
    out = tmp_path / "out"
    shutil.copytree(older_outs.FOLDER, out)
    assert states(out) == [("000001-adbe", "unknown")]
    write_tone(tmp_path / "songs" / "a.wav")
    summary = run_job(str(tmp_path / "songs"), str(out), model=tiny, overwrite=True)
    assert states(out) == [(summary.run, "ended"), ("000001-adbe", "unknown")]


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "Invalid JSON"), ("[1]", "should be an object"), (WORKED | {"ok": "many"}, "ok: Input should be a valid integer")],
)
def test_a_record_that_is_not_valid_is_named_and_hides_no_other(content, words, out):
    add(out)
    put(out / "_sep" / "runs" / "000008-dead.json", content)
    assert states(out) == [("000008-dead", "unreadable"), ("000007-abcd", "ended")]
    text = " ".join(line.strip() for line in lines(run_history(str(out))))
    assert "its record _sep/runs/000008-dead.json is not valid: " in text
    assert words in text


def test_only_the_newest_are_shown_and_the_number_of_the_others(out):
    for number in range(1, 26):
        add(out, f"{number:06d}-abcd")
        os.utime(out / "_sep" / "runs" / f"{number:06d}-abcd.json", (1e9 - number,) * 2)  # as a copy of OUT may have them
    (out / "_sep" / "runs" / "notes.txt").write_text("no record")
    text = call("status", out, "--history").stdout.splitlines()
    assert (len(text), text[1].split()[2], text[-1]) == (42, "000025-abcd", "and 5 earlier runs; --limit 25 or --json shows all")
    assert len(call("status", out, "--history", "--limit", 3).stdout.splitlines()) == 8
    assert len(json.loads(call("status", out, "--history", "--json").stdout)["runs"]) == 25
    assert len(json.loads(call("status", out, "--history", "--json", "--limit", 2).stdout)["runs"]) == 2


def test_a_limit_without_history_is_refused(out):
    told = call("status", out, "--limit", 3)
    assert (told.exit_code, told.output.strip()) == (
        2,
        "error: --limit 3: only with --history; add --history, or leave out --limit",
    )


def test_an_out_without_any_run_and_what_is_no_out_are_told_so(out, tmp_path):
    assert list(lines(run_history(str(out)))) == [f"{out}: no run has left a record yet"]
    Path(tmp_path / "songs").mkdir()
    with pytest.raises(errors.NotRunnableError, match="no run wrote to it"):
        run_history(str(tmp_path / "songs"))
