"""`submit` without a cluster: what is refused before it is sent, that one invocation is one job, and how a job is followed."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pytest
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.setup import stop
from sep_batch.jobs.submit import client, follow, job_api, submit
from sep_batch.jobs.submit.client import NoAnswer
from sep_batch.jobs.submit.job_api import Job
from sep_batch.pipeline import errors

RUN = ("run", "s3://bucket/songs.parquet")
COMMAND = "exec sep-batch run s3://bucket/songs.parquet"


class FakeApi:
    """A cluster whose answers are a script: exceptions are raised, anything else is given; the last one stays.

    Attributes:
        jobs: What `find` says, one after the other.
        logs: What each reading of the log yields.
        starts: What `start` says.
        started: What was started.
    """

    url = "http://head:8265"

    def __init__(self, jobs=(None,), logs=(("one\n", "two\n"),), starts=(None,), stops=(True,)):
        self.jobs, self.logs, self.starts, self.stops = list(jobs), list(logs), list(starts), list(stops)
        self.started, self.stopped = [], 0

    def find(self, name):
        return said(self.jobs)

    def start(self, name, command, environment):
        self.started.append((name, command, environment))
        said(self.starts)

    def stop(self, name):
        self.stopped += 1
        return said(self.stops)

    def log(self, name):
        for piece in said(self.logs):
            if isinstance(piece, Exception):
                raise piece
            time.sleep(piece if isinstance(piece, float) else 0)
            if isinstance(piece, str):
                yield piece


def said(script):
    """Return the next of a script, or raise it."""
    now = script.pop(0) if len(script) > 1 else script[0]
    if isinstance(now, Exception):
        raise now
    return now


def over(code, status=None):
    return Job(COMMAND, status or ("SUCCEEDED" if code == 0 else "FAILED"), code, "told by Ray")


RUNNING = Job(COMMAND, "RUNNING")


@pytest.fixture(autouse=True)
def quickly(monkeypatch, caplog):
    """Have no test wait; and hear what is said."""
    caplog.set_level(logging.INFO, "sep_batch")
    for module in (follow, submit):
        monkeypatch.setattr(module, "AGAIN_S", 0.01)
    monkeypatch.setattr(follow, "PATIENCE_S", 0.2)
    monkeypatch.setattr(follow, "QUIET_S", 0.1)
    monkeypatch.setattr(stop, "TICK_S", 0.02)


@pytest.fixture
def reached(monkeypatch):
    """Have the command line reach a fake cluster; returns it, and notes the URL."""
    api = FakeApi([None, over(3)])

    def reach(url, _source):
        api.url = url
        return api

    monkeypatch.setattr(job_api, "JobApi", reach)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    return api


def call(*words):
    return CliRunner().invoke(app, ["submit", *map(str, words)])


def test_a_command_is_sent_as_it_was_typed_and_its_log_and_exit_code_come_back(reached, monkeypatch):
    monkeypatch.setenv("SECRET", "hidden")
    words = ("run", "s3://bucket/it's here.parquet", "-f", "{id}/$(x) `y`;{stem}.{ext}")
    told = call("--address", "head", "--submission-id", "mine", "--env", "SECRET", "--", *words)
    assert (told.exit_code, told.stdout) == (3, "one\ntwo\n")
    ((name, command, environment),) = reached.started
    assert (reached.url, name) == ("http://head:8265", "mine")
    assert command == "exec sep-batch run 's3://bucket/it'\"'\"'s here.parquet' -f '{id}/$(x) `y`;{stem}.{ext}'"
    assert environment == {"RAY_JOB_STOP_WAIT_TIME_S": "600", "SECRET": "hidden"}


def test_patterns_are_sent_as_they_were_typed(reached):
    told = call(
        "--no-follow", "--", "sync", "s3://b/songs", "s3://b/stems", "--include", "*.wav", "--include", "x", "--exclude", "live"
    )
    assert told.exit_code == 0, told.output
    assert reached.started[0][1].endswith("sync s3://b/songs s3://b/stems --include '*.wav' --include x --exclude live")


def test_no_follow_prints_the_id_alone(reached):
    told = call("--no-follow", *RUN)
    assert (told.exit_code, told.stdout.strip()) == (0, reached.started[0][0])


def test_a_job_has_ten_minutes_to_end_in_order_unless_the_caller_says_otherwise(reached, monkeypatch):
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "60")
    call("--env", "RAY_JOB_STOP_WAIT_TIME_S", *RUN)
    assert reached.started[0][2] == {"RAY_JOB_STOP_WAIT_TIME_S": "60"}


MISTAKES = {
    "nothing": ((), "expected one of: a command after --"),
    "two of three": (("--follow", "a", "--stop", "b"), "expected one of: a command after --"),
    "an id to follow": (("--follow", "a", "--submission-id", "b"), "for a command that is submitted"),
    "a variable to stop": (("--stop", "a", "--env", "HOME"), "for a command that is submitted"),
    "follow or not": (("--follow", "a", "--no-follow"), "expected one of them"),
    "a name": (("--submission-id", "a/b", "--", *RUN), "--submission-id a/b: expected at most 100 of A-Z"),
    "a variable with its value": (("--env", "KEY=secret", "--", *RUN), "--env KEY: expected the name of a variable"),
    "a variable not set": (("--env", "NOT_SET_AT_ALL", "--", *RUN), "not set in this environment"),
    "an address": (("--address", "ray://head:10001", "--", *RUN), "expected the URL of the cluster's dashboard"),
    "a secret in an address": (("--address", "http://me:secret@head", "--", *RUN), "--address http://...: expected the URL"),
    "a local manifest": (("--", "run", "songs.parquet"), "MANIFEST songs.parquet: a path of this machine"),
    "a local manifest as a URI": (("--", "run", "file:///songs.parquet"), "expected object storage, or --shared-filesystem"),
    "a local OUT": (("--", *RUN, "-o", "/stems"), "--out /stems: a path of this machine"),
    "a local source": (("--", "sync", "songs", "s3://bucket/stems"), "SOURCE songs: a path of this machine"),
    "a local source in a list": (("--", "manifest", "s3://bucket/songs", "more"), "SRC more: a path of this machine"),
    "a secret in a URI": (
        ("--", "run", "s3://KEY:secret@bucket/songs.parquet"),
        "MANIFEST s3://...: credentials and chained URIs",
    ),
    "empty segments of OUT": (
        ("--", *RUN, "-o", "s3://b//x"),
        "--out s3://b//x: holds empty path segments (//), expected s3://b/x",
    ),
    "a local DEST": (("--", "export", "s3://b/o", "/data", "--to", "hf"), "DEST /data: a path of this machine"),
    "a scheme": (("--", *RUN, "-o", "ftp://host/stems"), "--out ftp://host/stems: scheme 'ftp'"),
    "a file of this folder": (("--", *RUN, "--storage-options", "a.json"), "relative to a folder of this machine"),
    "a file of metrics of this folder": (("--", *RUN, "--metrics-file", "a.prom"), "--metrics-file a.prom: relative to a folder"),
    "a model of this folder": (("--", *RUN, "--model", "tests"), "--model tests: relative to a folder of this machine"),
    "an address of the job": (("--", *RUN, "--address", "auto"), "--address after the command: expected before it"),
    "what the command refuses": (("--", *RUN, "--format", "xyz"), "--format xyz: expected one of flac"),
    "no pattern": (
        ("--", "manifest", "s3://bucket/songs", "-o", "s3://bucket/m.csv", "--exclude", "["),
        "--exclude '[': not a pattern",
    ),
    "a command for here": (("--", "demo"), "demo: works only on the local machine"),
    "what is shown here": (("--", "config", "show"), "config: works only on the local machine"),
    "itself": (("--", "submit", "--", *RUN), "submit: works only on the local machine"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_one_clear_line_exit_2_and_nothing_is_sent(mistake, reached, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    words, expected = MISTAKES[mistake]
    told = call(*words)
    assert told.exit_code == 2, told.output
    assert expected in told.output
    assert "secret" not in told.output
    assert len(told.output.strip().splitlines()) == 1
    assert not reached.started


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("rnu", "s3://b/x"), "Did you mean 'run'?"),
        ((*RUN, "--gpsu", "8"), "--gpus"),
        ((*RUN, "--limit", "x"), "--limit"),
        (("run",), "MANIFEST"),
        (("sync", "s3://b/x", "s3://b/y", "s3://b/z"), "unexpected extra"),
    ],
)
def test_a_typo_in_the_command_is_told_here_as_the_command_itself_tells_it(words, expected, reached):
    told = call("--", *words)
    assert (told.exit_code, reached.started) == (2, [])
    assert expected in told.output


def test_an_export_may_be_submitted(reached):
    assert call("--no-follow", "--", "export", "s3://b/out", "s3://b/data", "--to", "webdataset").exit_code == 0


CONFIG = """
[run]
manifest = "s3://bucket/it's here.parquet"
gpus = 8
mono = true
overwrite = false
include = ["*.wav", "x"]
[profile.night.run]
deadline = "06:00"
[submit]
address = "http://ray:8265"
no-follow = true
"""


@pytest.mark.parametrize(
    "words",
    [("--config", "run.toml", "--profile", "night", "--", "run"), ("--", "run", "--config", "run.toml", "--profile=night")],
)
def test_a_config_file_is_sent_as_the_flags_that_it_sets(words, reached, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(CONFIG)
    assert call(*words, "--gpus", "4", "--no-mono").exit_code == (3 if words[0] == "--" else 0)
    (command,) = [command for _, command, _ in reached.started]
    assert command == (
        "exec sep-batch run 's3://bucket/it'\"'\"'s here.parquet' --gpus 4 --no-mono --no-overwrite --deadline 06:00 "
        "--include '*.wav' --include x"
    )
    assert reached.url == ("http://127.0.0.1:8265" if words[0] == "--" else "http://ray:8265")


def test_a_file_of_the_submitted_command_wins_over_that_of_submit(reached, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEP_BATCH_CONFIG", "run.toml")
    (tmp_path / "run.toml").write_text(CONFIG)
    (tmp_path / "other.toml").write_text("[run]\nlimit = 3\n")
    assert call("--", *RUN, "--config", "other.toml").exit_code == 0
    assert reached.started[0][1] == f"{COMMAND} --limit 3"
    reached.started.clear()
    reached.jobs.insert(0, None)
    assert call("--config", "other.toml", "--no-follow", "--", *RUN).exit_code == 0
    assert reached.started[0][1] == f"{COMMAND} --limit 3"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('scratch = "mine"', "--scratch mine: relative to a folder of this machine"),
        ('out = "/stems"', "--out /stems: a path of this machine"),
        ('format = "xyz"', "--format xyz: expected one of flac"),
        (
            'address = "head:6379"',
            "address in the config file: expected none for a submitted command; the job joins the cluster that it runs on",
        ),
        ("gpu = 8", "run.toml: [run] gpu: unknown key; did you mean gpus?"),
    ],
)
def test_values_of_a_config_file_are_checked_before_they_are_sent(text, expected, reached, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text(f"[run]\n{text}\n")
    result = call("--", *RUN, "--config", "run.toml")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1), result.output
    assert expected in result.output
    assert not reached.started


def test_local_paths_may_be_submitted_where_every_node_sees_them(reached):
    assert call("--no-follow", "--", "run", "/shared/songs.parquet", "--shared-filesystem").exit_code == 0
    told = call("--", "run", "songs.parquet", "--shared-filesystem")
    assert (told.exit_code, "relative to a folder of this machine" in told.output) == (2, True)


@pytest.mark.parametrize(
    ("given", "server", "ray", "url"),
    [
        (None, None, None, "http://127.0.0.1:8265"),
        ("head", "http://other:1", "http://another:2", "http://head:8265"),
        ("https://head/ray/", None, None, "https://head:443/ray"),
        ("[::1]:80", None, None, "http://[::1]:80"),
        (None, "http://other:1", "http://another:2", "http://other:1"),
        (None, None, "http://another:2", "http://another:2"),
    ],
)
def test_the_address_is_the_flag_then_the_environment_then_this_machine(given, server, ray, url, monkeypatch):
    for name, value in (("RAY_API_SERVER_ADDRESS", server), ("RAY_ADDRESS", ray)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert client.url_of(given) == url


def test_the_address_of_ray_itself_is_not_taken_for_the_dashboards(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(errors.UsageError, match=r"RAY_ADDRESS 10.0.0.1:6379: expected the URL of the cluster's dashboard"):
        client.url_of(None)


def test_an_answer_that_is_lost_starts_no_second_job():
    api = FakeApi([None, RUNNING], starts=[NoAnswer("reset")])
    submit.start_job(api, "mine", RUN, {})
    assert len(api.started) == 1


def test_a_cluster_that_takes_no_job_is_asked_four_times(monkeypatch):
    api = FakeApi([None], starts=[NoAnswer("no agent")])
    with pytest.raises(NoAnswer, match="no agent"):
        submit.start_job(api, "mine", RUN, {})
    assert len(api.started) == submit.TRIES


def test_one_id_is_one_job(caplog):
    api = FakeApi([RUNNING])
    submit.start_job(api, "mine", RUN, {})
    assert api.started == []
    assert caplog.messages == ["job mine exists already (RUNNING); nothing is started"]
    with pytest.raises(errors.UsageError, match="a job of that name with another command, sep-batch run s3://bucket/songs"):
        submit.start_job(api, "mine", (*RUN, "--limit", "1"), {})


def test_a_log_that_breaks_off_goes_on_where_it_was():
    logs = [["one\n", "tw", NoAnswer("reset")], [NoAnswer("reset")], ["one\ntwo\n", "three\n"]]
    api, written = FakeApi([RUNNING, RUNNING, over(0)], logs), []
    assert submit.follow_job(api, "mine", written.append) == 0
    assert written == ["one\n", "tw", "o\n", "three\n"]


def test_a_log_that_ends_before_its_job_is_read_on():
    api, written = FakeApi([RUNNING, over(0)], [["one\n"], ["one\n", "two\n"]]), []
    assert submit.follow_job(api, "mine", written.append) == 0
    assert "".join(written) == "one\ntwo\n"


def test_a_log_that_says_nothing_more_though_its_job_is_over_is_left():
    api = FakeApi([over(0)], [["one\n", 60.0]])
    begun = time.monotonic()
    assert submit.follow_job(api, "mine", str) == 0
    assert time.monotonic() - begun < 5


def test_a_log_that_cannot_be_read_keeps_no_exit_code_back():
    assert submit.follow_job(FakeApi([over(4)], [[NoAnswer("gone")]]), "mine", str) == 4


def test_a_head_that_answers_again_in_time_is_waited_for_with_one_line(caplog):
    api = FakeApi([NoAnswer("refused"), NoAnswer("refused"), over(0)])
    assert submit.follow_job(api, "mine", str) == 0
    assert [line for line in caplog.messages if "refused" in line] == ["refused; trying again for 0 s"]


def test_a_head_that_does_not_answer_any_more_is_exit_5():
    with pytest.raises(NoAnswer, match="refused") as raised:
        submit.follow_job(FakeApi([NoAnswer("refused")], [[NoAnswer("refused")]]), "mine", str)
    assert raised.value.exit_code == 5


@pytest.mark.parametrize(
    ("job", "code", "words"),
    [
        (over(0), 0, ""),
        (over(75), 75, ""),
        (over(-9), 137, "killed by SIGKILL"),
        (over(None, "STOPPED"), 7, "was stopped; submit the same command again to resume"),
    ],
)
def test_the_exit_code_is_the_jobs(job, code, words, caplog):
    assert submit.follow_job(FakeApi([job]), "mine", str) == code
    assert words in caplog.text


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (over(127), "no sep-batch on the PATH of the cluster's head"),
        (over(None, "FAILED"), "Ray could not run it: told by Ray"),
        (None, "no job mine on http://head:8265"),
    ],
)
def test_a_job_that_could_not_run_is_one_line_and_exit_5(job, words):
    with pytest.raises(errors.NotRunnableError, match=words) as raised:
        submit.follow_job(FakeApi([job]), "mine", str)
    assert raised.value.exit_code == 5


def test_stop_asks_until_there_is_somebody_to_ask_and_waits_for_the_end(caplog):
    api = FakeApi([RUNNING, RUNNING, RUNNING, over(None, "STOPPED")], stops=[False, True])
    assert submit.stop_job(api, "mine", wait=True) == 0
    assert api.stopped == 2
    assert caplog.messages[-1] == "job mine is over: STOPPED"


def test_stop_without_following_only_asks():
    api = FakeApi([RUNNING])
    assert (submit.stop_job(api, "mine", wait=False), api.stopped) == (0, 1)


def test_stop_of_a_job_that_is_over_asks_nobody():
    api = FakeApi([over(0)])
    assert (submit.stop_job(api, "mine", wait=True), api.stopped) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_job_running_and_says_what_to_type(number, caplog):
    api = FakeApi([RUNNING], [["one\n", 60.0]])
    threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
    assert submit.attend(api, "mine", lambda: submit.follow_job(api, "mine", str)) == 7
    assert caplog.messages == [
        "interrupted; job mine keeps running",
        "follow it: sep-batch submit --address http://head:8265 --follow mine",
        "stop it: sep-batch submit --address http://head:8265 --stop mine",
    ]
    assert api.stopped == 0


def test_names_of_jobs_differ_and_are_names():
    names = {submit.new_name() for _ in range(20)}
    assert len(names) == 20
    assert all(submit.check_name("--follow", name) == name for name in names)
