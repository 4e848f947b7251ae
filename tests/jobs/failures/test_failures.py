"""`failures`: what failed is told by class and message, and a manifest of it is run again into the same rows."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.failures.advice import ADVICE, RETRY_HINT
from sep_batch.jobs.failures.failures import run_failures
from sep_batch.jobs.failures.report import lines
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors as failures
from sep_batch.pipeline import manifest
from sep_batch.pipeline.out import index
from sep_batch.pipeline.rows import EXTRA, JOURNAL


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments):
    """Return the one line that a refused command says, and its exit code."""
    told = call("failures", *arguments)
    assert len(told.output.splitlines()) == 1, told.output
    return told.exit_code, told.output


@pytest.fixture
def out(tmp_path):
    """Return what makes an OUT of failed rows, and one row that is ok."""

    def write(*rows, **columns):
        blank = dict.fromkeys(JOURNAL.names) | {"uri": "s3://b/x.mp3", "run_id": "000001-abcd", "attempts": 1}
        failed = {"status": "failed", "error_class": "decode_error", "error_stage": "decode", "transient": False}
        named = [blank | failed | {"id": f"t{place}"} | row for place, row in enumerate(rows)]
        table = pa.Table.from_pylist([*named, blank | {"id": "fine", "status": "ok"}], JOURNAL)
        for name, values in columns.items():
            table = table.append_column(name, pa.array([*values, None]))
        path = tmp_path / "out" / "_sep" / "journal" / "000001-abcd-000000.parquet"
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(table, path)
        run_json = {"settings": {}, "manifest": {"uri": str(tmp_path / "songs.parquet")}}
        (tmp_path / "out" / "_sep" / "run.json").write_text(json.dumps(run_json))
        return str(tmp_path / "out")

    return write


ALIKE = {
    "numbers": ("mp3: none of its 12 packets could be decoded", "mp3: none of its 7 packets could be decoded"),
    "their own uri": ("s3://b/a b.mp3: not found", "s3://b/c d.mp3: not found"),
    "their own id": ("track one is odd", "track two is odd"),
    "paths": ("/music/1/a.wav: a folder", "/music/2/b.wav: a folder"),
    "uris within": ('no answer of "https://s3/b/1?x"', 'no answer of "https://s3/b/2?y"'),
    "digests": ("sha256 0123456789abcdef", "sha256 fedcba9876543210"),
    "texts": ("looks like text: 'it''s no audio'; first bytes 69 74", "looks like text: 'nor is this'; first bytes 6e 6f"),
    "first bytes": ("first bytes 49 44 33 ff: no audio", "first bytes ff ff ff ff: no audio"),
    "decimals": ("no samples from 1.5 s on", "no samples from 22.75 s on"),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_messages_that_differ_only_in_what_is_their_tracks_own_are_one_group(kind, out):
    own = ({"id": "one", "uri": "s3://b/a b.mp3"}, {"id": "two", "uri": "s3://b/c d.mp3"})
    report = run_failures(out(*(row | {"error": error} for row, error in zip(own, ALIKE[kind], strict=True))))
    assert [group.tracks for group in report.groups] == [2], report.groups


def test_messages_that_say_different_things_are_not_one_group(out):
    errors = ("mp3: none of its 12 packets could be decoded", "flac: none of its 12 packets could be decoded", "no audio stream")
    report = run_failures(out(*({"error": error} for error in errors)))
    assert len(report.groups) == 3


def test_classes_stages_and_transience_keep_groups_apart_the_largest_first(out):
    lost = {"error_class": "fetch_timeout", "error_stage": "fetch", "transient": True, "error": "reset"}
    report = run_failures(out({"error": "reset"}, lost, lost | {"attempts": 3}))
    assert [(group.error_class, group.tracks, group.retried) for group in report.groups] == [
        ("fetch_timeout", 2, 1),
        ("decode_error", 1, 0),
    ]
    told = list(lines(report))
    assert told[0].endswith("3 of 4 tracks failed")
    assert "the same command run again retries 1 of them" in told
    assert f"decode_error: {ADVICE['decode_error']}" in told


def test_a_bug_is_told_by_the_last_line_of_its_traceback(out):
    trace = "Traceback:\n  File x, line {}\n    code\nKeyError: 'y'"
    report = run_failures(out(*({"error_class": "bug", "error": trace.format(line)} for line in (3, 4))))
    assert [group.message for group in report.groups] == ["KeyError: 'y'"]


def test_every_class_has_its_advice():
    def below(kind):
        return {kind, *(found for one in kind.__subclasses__() for found in below(one))}

    classes = {kind.error_class for kind in below(failures.TrackError) if kind.__module__ == failures.__name__}
    assert classes - {""} | {failures.BUG} == set(ADVICE)


def test_only_one_class_where_that_is_asked_for(out):
    made = out({"error_class": "not_found"}, {}, {})
    told = json.loads(call("failures", made, "--class", "decode_error", "--json").stdout)
    assert (told["failed"], [group["error_class"] for group in told["groups"]]) == (2, ["decode_error"])
    assert "--class broken: expected one of bad_row, not_found" in refusal(made, "--class", "broken")[1]


def test_more_messages_than_are_shown_are_counted(out):
    told = list(lines(run_failures(out(*({"error": f"kind {chr(97 + place)}"} for place in range(manifest.SHOWN + 2))))))
    assert "and 2 more messages; --json lists all" in told


def test_where_nothing_failed_that_is_said_and_the_manifest_has_no_rows(out, tmp_path):
    made = out()
    for _ in range(2):
        told = call("failures", made, "--to", tmp_path / "none.jsonl")
    assert (told.exit_code, told.output.splitlines()[0].endswith("0 of 1 track failed")) == (0, True)
    assert told.output.splitlines()[1] == f"0 tracks in {tmp_path}/none.jsonl; nothing to run again"
    assert (tmp_path / "none.jsonl").read_text() == ""


@pytest.fixture
def ran(tiny, local, tmp_path):
    """An OUT of three tracks of which two failed, of a manifest with columns of its own and without ids."""
    write_tone(tmp_path / "songs" / "fine.wav", 300, 0.2)
    (tmp_path / "songs" / "broken.wav").write_bytes(b"no audio")
    columns = {
        "uri": ["songs/fine.wav", "songs/broken.wav", "songs/gone.wav"],
        "artist": ["A", "B", "C"],
        "error": ["x", "y", "z"],
    }
    pyarrow.parquet.write_table(pa.table(columns | {"offset_s": [0.0, 0.05, None]}), tmp_path / "songs.parquet")
    run_job(str(tmp_path / "songs.parquet"), str(tmp_path / "its stems"), model=tiny, mono=True, duration_s=0.1)
    return tmp_path / "its stems"


def command_of(told):
    """Return the command that is to be typed next, without the program's name."""
    (line,) = (line for line in told.output.splitlines() if line.startswith("next: "))
    return shlex.split(line.removeprefix("next: sep-batch "))


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
def test_the_command_that_is_told_runs_what_failed_again_into_the_same_rows(ran, tiny, extension):
    before = {row["id"]: row for row in index.read(str(ran)).to_pylist()}
    again = ran.parent / "elsewhere" / f"failures.{extension}"
    told = call("failures", ran, "--to", again)
    assert told.exit_code == 0, told.output
    listed = manifest.read(str(again)).tracks
    assert set(listed.column("id").to_pylist()) == {name for name, row in before.items() if row["status"] == "failed"}
    for hz, name in ((400, "broken"), (500, "gone")):
        write_tone(ran.parent / "songs" / f"{name}.wav", hz, 0.2)
    command = command_of(told)
    assert call(*command).exit_code == 0
    after = {row["id"]: row for row in index.read(str(ran)).to_pylist()}
    assert after.keys() == before.keys()
    for name, row in after.items():
        assert row["status"] == "ok"
        assert (row["artist"], row["uri"], row["offset_s"]) == tuple(before[name][key] for key in ("artist", "uri", "offset_s"))
    assert "nothing to do" in call(*command).output
    own = command[command.index("--out") : command.index("--retry")]
    assert "nothing to do" in call("run", ran.parent / "songs.parquet", *own).output


def test_without_to_the_next_command_is_the_one_that_writes_the_manifest(ran, monkeypatch):
    monkeypatch.chdir(ran.parent)
    told = call("failures", ran, "--class", "not_found")
    assert RETRY_HINT in told.output.splitlines()
    written = call(*command_of(told))
    assert (written.exit_code, "1 track in failures.parquet" in written.output) == (0, True)
    assert json.loads(call("failures", ran, "--to", "f.csv", "--json").stdout)["next"] == (
        f"sep-batch run f.csv --out '{ran}' --model {run_model(ran)} --duration 0.1 --mono --retry all"
    )


def run_model(out):
    return json.loads((out / "_sep" / "run.json").read_text())["model"]


def test_how_storage_is_reached_and_what_may_be_read_is_in_the_next_command(out, tmp_path):
    made = out({"error_class": "not_found"})
    run_json = Path(made) / "_sep" / "run.json"
    told = json.loads(run_json.read_text())
    told["manifest"]["read_with"] = {"allow_http": True, "input_root": "/my music"}
    run_json.write_text(json.dumps(told))
    (tmp_path / "o.json").write_text("{}")
    asked = ("--to", tmp_path / "f.csv", "--storage-options", tmp_path / "o.json")
    assert command_of(call("failures", made, *asked))[2:] == [
        *("--out", made, "--allow-http", "--input-root", "/my music", "--retry", "all"),
        *("--storage-options", str(tmp_path / "o.json")),
    ]


def test_rows_that_name_no_track_do_not_keep_the_others_from_being_run_again(tiny, local, tmp_path):
    (tmp_path / "songs.jsonl").write_text('{"uri": "a.wav"}\n{"uri": null}\n')
    assert call("run", tmp_path / "songs.jsonl", "--model", tiny, "--bad-rows", "fail").exit_code == 3
    command = command_of(call("failures", tmp_path / "songs.stems", "--to", tmp_path / "f.csv"))
    write_tone(tmp_path / "a.wav", seconds=0.2)
    told = call(*command)
    assert (told.exit_code, "1 track separated" in told.output) == (3, True), told.output


def test_a_run_and_a_plan_say_how_what_failed_before_is_tried_again(ran, tiny):
    asked = (ran.parent / "songs.parquet", "--out", ran, "--model", tiny, "--mono", "--duration", "0.1")
    for command in ("run", "plan"):
        told = call(command, *asked)
        assert (told.exit_code, RETRY_HINT in told.output) == (0, True), told.output
    for hz, name in ((400, "broken"), (500, "gone")):
        write_tone(ran.parent / "songs" / f"{name}.wav", hz, 0.2)
    assert "2 failed before" in call("run", *asked).output
    assert RETRY_HINT not in call("run", *asked, "--retry", "all").output
    assert RETRY_HINT not in call("run", *asked).output


def test_columns_do_not_grow_however_often_what_failed_is_run_again(ran, tiny):
    again = ran.parent / "failures.parquet"
    for _ in range(3):
        assert call("failures", ran, "--to", again).exit_code == 0
        assert call("run", again, "-o", ran, "-p", tiny, "--mono", "-d", "0.1", "--retry", "all").exit_code == 3
    names = pyarrow.parquet.read_schema(again).names
    assert names == ["uri", "id", "offset_s", "duration_s", "source_etag", "error_class", "error", "artist"]
    assert {field.name for field in manifest.read(str(again)).tracks.schema.field(EXTRA).type} == {
        *("artist", "manifest_error", "manifest_error_class")
    }


def test_a_place_that_would_overwrite_something_is_refused(ran):
    for place, words in (
        (ran.parent / "songs.parquet", "exists, and this command did not write it"),
        (ran / "index.parquet", "lies in OUT"),
    ):
        before = Path(place).read_bytes()
        assert refusal(ran, "--to", place) == (2, f"error: --to {place}: {words}; choose another path\n")
        assert Path(place).read_bytes() == before


def test_a_manifest_that_cannot_be_written_so_is_refused_in_one_line(out, tmp_path):
    made = out({}, {}, text=["one\ntwo", ""])
    for name, words in (("f.txt", "expected .parquet"), ("f.csv", "texts of several lines")):
        code, told = refusal(made, "--to", tmp_path / name)
        assert (code, words in told) == (2, True), told
        assert not (tmp_path / name).exists()
    (tmp_path / "file").write_text("")
    code, told = refusal(made, "--to", tmp_path / "file" / "f.parquet")
    assert (code, told.startswith("error: --to "), "could not be written" in told) == (5, True, True)
    assert refusal(made, "--to", "ftp://host/f.parquet")[1].startswith("error: --to ftp://host/f.parquet: scheme 'ftp'")
    assert call("failures", made, "--to", tmp_path / "f.parquet").exit_code == 0


def test_a_column_that_csv_cannot_hold_is_refused_and_parquet_and_jsonl_hold_it(out, tmp_path):
    made = out({}, {}, tags=[["a"], ["b"]], added=[datetime.now(UTC)] * 2)
    code, told = refusal(made, "--to", tmp_path / "f.csv")
    assert (code, told.startswith("error: --to "), "Parquet holds every column" in told) == (2, True, True)
    for name in ("f.parquet", "f.jsonl"):
        assert call("failures", made, "--to", tmp_path / name).exit_code == 0
        assert manifest.read(str(tmp_path / name)).tracks.num_rows == 2


def test_what_is_no_out_is_exit_5_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        code, told = refusal(tmp_path / place, "--to", tmp_path / "f.parquet")
        assert (code, told.startswith(f"error: OUT {tmp_path / place}: ")) == (5, True)
    assert not (tmp_path / "f.parquet").exists()
