"""What answers where a cluster's dashboard is expected, and what is said of it in one line."""

from __future__ import annotations

import http.server
import importlib
import json
import socket
import sys
import threading

import pytest

from sep_batch.jobs.submit import client
from sep_batch.jobs.submit.client import NoAnswer
from sep_batch.jobs.submit.job_api import Job, JobApi
from sep_batch.pipeline import errors

DETAILS = {"type": "SUBMISSION", "submission_id": "a", "status": "FAILED", "entrypoint": "exec x", "driver_exit_code": 3}


@pytest.fixture
def answers(monkeypatch):
    """A server at `answers.url` that answers each path as `answers[path]` says: status and body; all else is 404."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # put back at the end: the client's constructor sets it
    told = Answers({"/api/version": (200, json.dumps({"ray_version": "2.60.0", "version": "4"}))})

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = told.get(self.path, (404, "Not found"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815 (http.server's word)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told.url = f"http://127.0.0.1:{server.server_port}"
        yield told
        server.shutdown()


class Answers(dict):
    url = ""


def test_a_job_is_told_as_the_cluster_has_it(answers):
    answers["/api/jobs/a"] = (200, json.dumps(DETAILS))
    api = JobApi(answers.url)
    assert api.find("a") == Job("exec x", "FAILED", 3)
    assert api.find("b") is None


def test_a_driver_that_nobody_submitted_is_no_job(answers):
    answers["/api/jobs/a"] = (200, json.dumps(DETAILS | {"type": "DRIVER"}))
    assert JobApi(answers.url).find("a") is None


def test_the_address_given_wins_over_the_environment(answers, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    assert JobApi(answers.url).find("a") is None


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, "Unauthorized: Missing authentication token", "expects a token, found none; expected it in RAY_AUTH_TOKEN"),
        (403, "Forbidden: Invalid authentication token", "does not take this token; expected the one"),
        (404, "Not found", "answers, but not as the dashboard of a Ray cluster"),
        (200, "<html>", "answers, but not as the dashboard of a Ray cluster"),
        (200, "[]", "answers, but not as the dashboard of a Ray cluster"),
    ],
)
def test_what_is_no_dashboard_or_refuses_the_token_is_one_line_that_waits_for_nothing(status, body, words, answers):
    answers["/api/version"] = (status, body)
    with pytest.raises(errors.NotRunnableError, match=words) as raised:
        JobApi(answers.url)
    assert not isinstance(raised.value, NoAnswer)
    assert raised.value.exit_code == 5
    assert "\n" not in str(raised.value)


def test_a_traceback_that_the_cluster_sends_is_told_by_its_end(answers):
    answers["/api/jobs/"] = (500, "Traceback (most recent call last):\n  File x\nTimeoutError: no agent\n.")
    with pytest.raises(NoAnswer, match=r"^http://127.0.0.1:\d+: TimeoutError: no agent$"):
        JobApi(answers.url).start("a", "true", {})


def test_a_log_that_is_refused_is_no_answer(answers):
    with pytest.raises(NoAnswer, match="404"):
        list(JobApi(answers.url).log("a"))


def test_where_nothing_listens_it_says_what_was_expected():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(NoAnswer, match=r"no dashboard at .*: connection refused; expected .*ray\[default\]"):
            JobApi(url)


def test_the_line_says_where_the_address_came_from(monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    assert client.source_of("http://head:8265") == "from --address"
    assert client.source_of(None) == "the default; --address http://HOST:8265 names another"
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(NoAnswer, match=r"^no dashboard at http://127.0.0.1:1 \(from RAY_ADDRESS\): connection refused"):
        JobApi(client.url_of(None), client.source_of(None))


def test_a_cluster_that_goes_away_is_told_without_the_words_of_a_library(answers, monkeypatch):
    api = JobApi(answers.url)
    monkeypatch.setattr(api._client, "_address", "http://127.0.0.1:1")
    with pytest.raises(NoAnswer, match=r"^http://127.0.0.1:\d+ does not answer$"):
        api.find("a")


def test_what_never_answers_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(client, "REACH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(NoAnswer, match=": no answer in 0 s; expected"):
        JobApi(f"http://127.0.0.1:{mute.getsockname()[1]}")


def test_without_rays_client_the_line_says_what_to_install(answers, monkeypatch):
    sdk = importlib.import_module("ray.dashboard.modules.job.sdk")
    monkeypatch.setattr(sdk, "requests", None)  # what Ray has where its extra is not installed
    with pytest.raises(errors.NotRunnableError, match=r"install the extra cluster: .* 'ray\[default\]=="):
        JobApi(answers.url)
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    with pytest.raises(errors.NotRunnableError, match=r"install the extra cluster: .* 'ray\[default\]=="):
        JobApi(answers.url)
