"""`submit` against a real cluster: `ray start --head` with its dashboard and a token, S3 for all that is read and written."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

import boto3
import pyarrow as pa
import pyarrow.parquet
import pytest
import ray_clusters
from catalogs import write_tone

from sep_batch.pipeline.out import index

pytest.importorskip("aiohttp_cors", reason="ray[default] is not installed: pip install '.[cluster]'")
CARRIED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3")
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def cluster():
    """A running cluster; yields what a caller's environment says of it."""
    token = secrets.token_hex(32)
    with ray_clusters.cluster(token) as url:
        yield {"RAY_API_SERVER_ADDRESS": url, "RAY_AUTH_TOKEN": token}


@pytest.fixture(scope="module")
def many(s3, tmp_path_factory):
    """A manifest on S3 of more than a run does in minutes: one song under many ids."""
    folder = tmp_path_factory.mktemp("many")
    client = boto3.client("s3")
    client.upload_file(str(write_tone(folder / "long.wav", seconds=60)), "songs", "many/long.wav")
    ids = [f"track{number}" for number in range(2000)]
    pyarrow.parquet.write_table(pa.table({"uri": ["long.wav"] * len(ids), "id": ids}), folder / "many.parquet")
    client.upload_file(str(folder / "many.parquet"), "songs", "many/many.parquet")
    return f"{s3}/many/many.parquet"


@pytest.fixture(scope="module")
def songs(s3, tmp_path_factory):
    """A prefix of tones in the S3 server's bucket."""
    client = boto3.client("s3")
    for hz in (300, 500, 700):
        tone = write_tone(tmp_path_factory.mktemp("tones") / f"{hz}.wav", hz)
        client.upload_file(str(tone), "songs", f"submitted/{hz}.wav")
    return f"{s3}/submitted"


def command(*words):
    return [sys.executable, "-m", "sep_batch.jobs", "submit", *map(str, words)]


def submit(cluster, *words):
    """Run the command line as a user does."""
    told = subprocess.run(
        command(*words), env=os.environ | cluster, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    return told.returncode, told.stdout, told.stderr


def carried():
    return [word for name in CARRIED for word in ("--env", name)]


@pytest.mark.slow
def test_a_job_on_a_cluster_separates_from_s3_to_s3_and_its_log_and_exit_code_come_back(cluster, songs, s3, tiny):
    out = f"{s3}/stems of a job's"
    code, stdout, stderr = submit(cluster, *carried(), "--", "run", songs, "-o", out, "-p", tiny, "--gpus", 0)
    assert code == 0, stdout + stderr
    assert "3 tracks separated, 0 failed" in stdout
    assert [row["status"] for row in index.read(out).to_pylist()] == ["ok"] * 3


def test_a_job_that_fails_gives_its_exit_code_and_its_line_and_one_id_is_one_job(cluster, s3):
    words = ("--submission-id", "missing", *carried(), "--", "run", f"{s3}/nothing.parquet")
    code, stdout, _ = submit(cluster, *words)
    assert code == 5
    assert "nothing.parquet: not found" in stdout
    again = submit(cluster, *words)
    assert again == (5, stdout, "job missing exists already (FAILED); nothing is started\n")
    code, _, stderr = submit(cluster, *words, "--limit", 1)
    assert (code, len(stderr.splitlines())) == (2, 1)
    assert "another command" in stderr


def test_a_wrong_token_is_one_clear_line_and_exit_5(cluster, s3):
    code, stdout, stderr = submit(cluster | {"RAY_AUTH_TOKEN": "ab" * 32}, "--", "run", f"{s3}/songs.parquet")
    assert (code, stdout, len(stderr.splitlines())) == (5, "", 1), stderr
    assert "does not take this token" in stderr


@pytest.mark.slow
def test_a_job_that_is_stopped_ends_in_order_and_one_who_watched_it_can_leave(cluster, many, s3, tiny):
    out = f"{s3}/stopped"
    words = ("--no-follow", *carried(), "--", "run", many, "-o", out, "-p", tiny, "--gpus", 0)
    code, stdout, _ = submit(cluster, *words)
    assert code == 0
    name = stdout.strip()
    watching = subprocess.Popen(
        command("--follow", name), env=os.environ | cluster, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while "/2000 tracks" not in (line := watching.stdout.readline()):
        assert line, "the log ended early"
    watching.terminate()
    _, stderr = watching.communicate(timeout=30)
    assert watching.returncode == 7
    assert f"--stop {name}" in stderr
    code, _, stderr = submit(cluster, "--stop", name)
    assert (code, "over: STOPPED" in stderr) == (0, True)
    code, stdout, _ = submit(cluster, "--follow", name)
    assert (code, "stopped by SIGTERM; run the same command again to resume" in stdout) == (7, True)
