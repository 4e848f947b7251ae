from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
import psutil
import pytest
import s3_servers
from botocore.exceptions import ClientError

SOME_S = 20.0
RIVALS = 10


@pytest.fixture
def folder(tmp_path):
    if why := s3_servers.why_not_swift(tmp_path):
        pytest.skip(why)
    return tmp_path


@pytest.fixture
def port():
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def client(port, **key):
    return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **key)


def test_what_was_put_is_there_after_the_next_start_and_no_program_is_left_behind(folder, port):
    with s3_servers.swift(folder, port) as launcher:
        servers = psutil.Process(launcher.pid).children()
        assert len(servers) == 4
        client(port).create_bucket(Bucket="songs")
        client(port).put_object(Bucket="songs", Key="a", Body=b"content")
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(SOME_S) == 0
        assert not psutil.wait_procs(servers, SOME_S)[1]
    with s3_servers.swift(folder, port):
        assert client(port).get_object(Bucket="songs", Key="a")["Body"].read() == b"content"


def test_it_ends_with_the_program_that_started_it(folder, port):
    script = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    starter = subprocess.Popen(
        [sys.executable, "-c", script, *s3_servers.SERVE, str(folder), "--port", str(port)], stdout=subprocess.PIPE
    )
    with starter, starter.stdout:
        assert starter.stdout.readline()
        started = psutil.Process(starter.pid).children(recursive=True)
        assert len(started) == 5
        starter.kill()
        assert not psutil.wait_procs(started, SOME_S)[1]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}, "AWS_ACCESS_KEY_ID: found 'AKIDEXAMPLE', expected ACCOUNT:USER"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_SECRET_ACCESS_KEY: empty, or has characters other than"),
    ],
)
def test_a_key_that_swift_cannot_take_is_refused_in_one_line(folder, port, changed, told):
    refused = subprocess.run(
        [*s3_servers.SERVE, str(folder), "--port", str(port)],
        env=os.environ | changed,
        capture_output=True,
        text=True,
        timeout=SOME_S,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith(told)
    assert len(refused.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_refused(folder):
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(RuntimeError, match="Address already in use; expected a free port"),
        s3_servers.swift(folder, taken.getsockname()[1]),
    ):
        pytest.fail("it started")


@pytest.mark.parametrize("key", [{"aws_secret_access_key": "other"}, {"aws_access_key_id": "sep:other"}])
def test_another_key_or_secret_is_refused(s3, s3_server, key):
    if s3_server != "swift":
        pytest.skip("moto takes any key")
    given = {"aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        boto3.client("s3", **given | key).list_objects_v2(Bucket="songs")


@pytest.fixture
def store(s3, s3_server):
    """A client of the real server."""
    if s3_server != "swift":
        pytest.skip("moto checks and writes apart: several may win")
    return boto3.client("s3")


def winners(create):
    """Have several create one object at the same time; return those who did."""

    def told(number):
        try:
            create(number)
        except ClientError as error:
            return error.response["Error"]["Code"]
        return number

    with ThreadPoolExecutor(RIVALS) as threads:
        answers = list(threads.map(told, range(RIVALS)))
    assert answers.count("PreconditionFailed") >= RIVALS - 1
    return [answer for answer in answers if answer != "PreconditionFailed"]


def test_of_ten_that_create_one_object_one_wins(store):
    won = winners(lambda number: store.put_object(Bucket="songs", Key="put", Body=b"%d" % number, IfNoneMatch="*"))
    assert won == [int(store.get_object(Bucket="songs", Key="put")["Body"].read())]


def test_of_ten_that_create_one_object_by_parts_one_wins(store):
    uploads = []
    for number in range(RIVALS):
        upload = {"Bucket": "songs", "Key": "parts"}
        upload["UploadId"] = store.create_multipart_upload(**upload)["UploadId"]
        tag = store.upload_part(**upload, PartNumber=1, Body=b"%d" % number)["ETag"]
        uploads.append(upload | {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": tag}]}})
    won = winners(lambda number: store.complete_multipart_upload(**uploads[number], IfNoneMatch="*"))
    assert won == [int(store.get_object(Bucket="songs", Key="parts")["Body"].read())]
