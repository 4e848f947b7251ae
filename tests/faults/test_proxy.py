from __future__ import annotations

import contextlib
import math
import os
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from faults.plan import Fault, Kind
from faults.proxy import faulty

CONTENT = os.urandom(300_000)
BIG = 9 << 20
STALL_S = 0.3
PATIENCE_S = 1
# Neither repeats nor checks, so that faults come through.
PLAIN = Config(
    retries={"total_max_attempts": 1},
    response_checksum_validation="when_required",
    s3={"addressing_style": "path"},
)


@pytest.fixture
def through(s3):
    """Open a client on a proxy before the server, with a plan."""
    with contextlib.ExitStack() as opened:

        def client(*faults, **config):
            endpoint = opened.enter_context(faulty(os.environ["AWS_ENDPOINT_URL_S3"], *faults))
            return boto3.client("s3", endpoint_url=endpoint, config=PLAIN.merge(Config(**config)))

        yield client


@pytest.fixture
def direct(s3):
    """A client on the server itself, with an object to get."""
    client = boto3.client("s3")
    client.put_object(Bucket="songs", Key="faults/a", Body=CONTENT)
    return client


def get(client, key="faults/a"):
    return client.get_object(Bucket="songs", Key=key)["Body"].read()


def put(client, key, content=b"content"):
    client.put_object(Bucket="songs", Key=key, Body=content)


def keys(client, prefix):
    return [found["Key"] for found in client.list_objects_v2(Bucket="songs", Prefix=prefix).get("Contents", [])]


def test_without_faults_everything_comes_through_as_it_is(direct, through):
    client = through()
    put(client, "faults/b c+ä", CONTENT)
    assert get(client, "faults/b c+ä") == CONTENT
    assert client.head_object(Bucket="songs", Key="faults/b c+ä")["ContentLength"] == len(CONTENT)
    assert client.get_object(Bucket="songs", Key="faults/a", Range="bytes=10-19")["Body"].read() == CONTENT[10:20]
    upload = client.create_multipart_upload(Bucket="songs", Key="faults/m")["UploadId"]
    parts = []
    for number in (1, 2):
        part = {"Bucket": "songs", "Key": "faults/m", "UploadId": upload, "PartNumber": number}
        parts.append({"PartNumber": number, "ETag": client.upload_part(**part, Body=bytes([number]) * (5 << 20))["ETag"]})
    client.complete_multipart_upload(Bucket="songs", Key="faults/m", UploadId=upload, MultipartUpload={"Parts": parts})
    assert get(client, "faults/m") == bytes([1]) * (5 << 20) + bytes([2]) * (5 << 20)
    client.delete_objects(Bucket="songs", Delete={"Objects": [{"Key": "faults/m"}, {"Key": "faults/b c+ä"}]})
    assert keys(direct, "faults/") == ["faults/a"]


def test_a_server_that_refuses_before_it_has_the_body_is_heard(direct, through):
    with pytest.raises(ClientError, match="PreconditionFailed"):
        through().put_object(Bucket="songs", Key="faults/a", Body=bytes(BIG), IfNoneMatch="*")


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (Kind.INTERNAL_ERROR, 500, "InternalError"),
        (Kind.SLOW_DOWN, 503, "SlowDown"),
        (Kind.EXPIRED_TOKEN, 403, "ExpiredToken"),
        (Kind.EXPIRED_TOKEN_400, 400, "ExpiredToken"),
    ],
)
def test_an_error_is_answered_in_the_servers_stead(direct, through, kind, status, code):
    faults = Fault(kind, "PUT"), Fault(kind, "HEAD", times=math.inf)  # after a 400 botocore asks the bucket for its region
    client = through(*faults)
    with pytest.raises(ClientError) as refused:
        put(client, f"errors/{status}")
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    with pytest.raises(ClientError) as refused:
        client.head_object(Bucket="songs", Key="faults/a")
    assert refused.value.response["Error"]["Code"] == str(status)  # a HEAD has no body to say more
    assert not keys(direct, f"errors/{status}")
    assert faults[0].fired == 1
    assert faults[1].fired >= 1
    put(client, f"errors/{status}")


def test_a_request_that_is_reset_never_reaches_the_server(direct, through):
    fault = Fault(Kind.RESET_BEFORE, "PUT")
    with pytest.raises(ConnectionClosedError):
        put(through(fault), "reset/a")
    assert not keys(direct, "reset/")
    assert fault.fired == 1


@pytest.mark.parametrize("kind", [Kind.RESET_AMID, Kind.TRUNCATE])
@pytest.mark.parametrize("at", [None, 0, 1])
def test_a_body_that_is_cut_off_is_shorter_than_announced(direct, through, kind, at):
    fault = Fault(kind, "GET", "faults/a", at=at)
    answer = through(fault).get_object(Bucket="songs", Key="faults/a")
    assert answer["ContentLength"] == len(CONTENT)
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        answer["Body"].read()
    assert fault.fired == 1


def test_an_answer_that_is_dropped_is_of_something_done(direct, through):
    fault = Fault(Kind.DROP, "PUT", "dropped")
    with pytest.raises(ConnectionClosedError):
        put(through(fault), "dropped", b"done")
    assert get(direct, "dropped") == b"done"
    assert fault.fired == 1


def test_a_stall_outlasts_the_clients_patience(direct, through):
    fault = Fault(Kind.STALL, "GET")
    with pytest.raises(ReadTimeoutError):
        get(through(fault, read_timeout=PATIENCE_S))
    assert fault.fired == 1


def test_a_stall_may_come_amid_the_body(direct, through):
    fault = Fault(Kind.STALL, "GET", at=1000)
    answer = through(fault, read_timeout=PATIENCE_S).get_object(Bucket="songs", Key="faults/a")
    assert answer["Body"].read(1000) == CONTENT[:1000]
    with pytest.raises(ReadTimeoutError):
        answer["Body"].read()
    assert fault.fired == 1


def test_after_a_stall_comes_the_rest(direct, through):
    client = through(Fault(Kind.STALL, "GET", seconds=STALL_S))
    begun = time.monotonic()
    assert get(client) == CONTENT
    assert time.monotonic() - begun >= STALL_S


def test_a_flip_turns_one_bit(direct, through):
    fault = Fault(Kind.FLIP, "GET", at=7)
    found = get(through(fault))
    assert found == CONTENT[:7] + bytes([CONTENT[7] ^ 1]) + CONTENT[8:]
    assert fault.fired == 1


def test_a_fault_hits_the_requests_it_is_planned_for(direct, through):
    put(direct, "faults/b")
    planned = Fault(Kind.SLOW_DOWN, "GET", "faults/a", nth=2, times=2)
    client = through(planned, Fault(Kind.SLOW_DOWN, "GET", "prefix=never", times=math.inf))
    served = []
    for _ in range(4):
        get(client, "faults/b")
        try:
            served.append(get(client) == CONTENT)
        except ClientError:
            served.append(False)
    assert served == [True, False, False, True]
    assert (planned.seen, planned.fired) == (4, 2)
    for _ in range(2):
        with pytest.raises(ClientError):
            keys(client, "never")


def test_a_body_that_is_too_short_for_its_fault_counts_as_no_hit(direct, through):
    put(direct, "faults/empty", b"")
    fault = Fault(Kind.TRUNCATE, "GET", "faults/empty")
    with pytest.raises(ConnectionClosedError):
        get(through(fault), "faults/empty")
    assert fault.fired == 0
