"""`--log-format`: lines for a person, or JSON that names run and track, all of it."""

from __future__ import annotations

import json
import logging
import warnings

import pytest
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.progress import log as logs
from sep_batch.pipeline import manifest
from sep_batch.pipeline.out import index


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def songs(tmp_path):
    """A tone and a file that is no audio."""
    write_tone(tmp_path / "songs" / "a.wav")
    (tmp_path / "songs" / "broken.wav").write_bytes(b"no audio")
    return tmp_path / "songs"


def test_as_json_every_line_parses_and_names_the_run_and_a_failed_lines_track(songs, tiny, local):
    told = call("run", songs, "-o", songs.parent / "o", "-p", tiny, "--log-format", "json", "--metrics-port", "0")
    assert told.exit_code == 3
    lines = [json.loads(line) for line in told.stderr.splitlines()]
    assert all(line.keys() == {"time", "level", "run", "track", "message"} for line in lines)
    rows = {row["status"]: row for row in index.read(str(songs.parent / "o")).to_pylist()}
    (failed,) = [line for line in lines if line["message"].startswith("failed: ")]
    assert (failed["track"], failed["level"]) == (rows["failed"]["id"], "warning")
    assert {line["run"] for line in lines} == {None, rows["ok"]["run_id"]}
    assert lines[0]["message"].startswith("metrics: http")
    assert lines[-1]["message"].startswith("2/2 tracks, 1 failed")
    assert lines[-1]["run"] == rows["ok"]["run_id"]


def test_as_json_an_error_and_what_python_warns_of_are_lines_of_json_too(capsys):
    with logs.shown() as log:
        log.speak("json")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", stacklevel=1)
        try:
            raise KeyError("planted")
        except KeyError:
            logging.getLogger("other").exception("it failed\nbadly")
    warned, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert "UserWarning: old" in warned["message"]
    assert (failed["level"], failed["run"]) == ("error", None)
    assert "KeyError: 'planted'" in failed["message"]


def test_an_error_ends_a_run_with_one_line_of_json(tmp_path, local):
    told = call("run", tmp_path / "no.parquet", "--log-format", "json")
    assert told.exit_code == 5
    (line,) = told.stderr.splitlines()
    assert "no.parquet: not found" in json.loads(line)["message"]


def test_a_defect_is_one_line_of_json_too(tmp_path, local, monkeypatch):
    monkeypatch.setattr(manifest, "read", lambda *_, **__: {}["planted"])
    told = call("run", tmp_path / "no.parquet", "--log-format", "json")
    assert told.exit_code == 1
    (line,) = told.stderr.splitlines()
    assert "KeyError: 'planted'" in json.loads(line)["message"]


def test_as_text_a_line_is_its_message_and_an_error_says_that_it_is_one(capsys):
    with logs.shown():
        logging.getLogger("sep_batch").info("metrics: %s", "here")
        logging.getLogger("sep_batch").error("no such thing")
        logging.getLogger("other").info("nobody's business")
    assert capsys.readouterr().err == "metrics: here\nerror: no such thing\n"


def test_after_a_command_logging_is_as_it_was(capsys):
    before = logging.getLogger("sep_batch").level
    with logs.shown() as handler:
        assert handler in logging.getLogger().handlers
    assert handler not in logging.getLogger().handlers
    assert logging.getLogger("sep_batch").level == before
