"""Objects in an archive of their storage: each fails as `archived`, which says to restore it, and listings count them."""

from __future__ import annotations

import socket

import boto3
import pytest
import s3_servers

from sep_batch.jobs.failures.advice import ADVICE
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors as failures
from sep_batch.pipeline import manifest, storage
from sep_batch.pipeline.out import index
from sep_batch.pipeline.storage import retries
from sep_batch.pipeline.storage.filesystems import info_of


@pytest.fixture(scope="module")
def bucket():
    """A bucket of moto's mock, which has storage classes, with a file in each class of S3 that is not read at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    with s3_servers.moto(port):
        client = boto3.client("s3", endpoint_url=endpoint)
        client.create_bucket(Bucket="cold")
        for kind in ("STANDARD", "GLACIER", "DEEP_ARCHIVE", "GLACIER_IR"):
            client.put_object(Bucket="cold", Key=f"songs/{kind}.wav", Body=b"no audio", StorageClass=kind)
        storage.use({"s3://": {"endpoint_url": endpoint, "key": "a", "secret": "b"}})
        yield "s3://cold/songs", endpoint
        storage.use({})


@pytest.mark.parametrize("kind", ["GLACIER", "DEEP_ARCHIVE"])
def test_an_object_in_an_archive_of_s3_is_told_to_be_restored_and_asked_for_once(kind, bucket, monkeypatch):
    monkeypatch.setattr(retries, "PAUSE_S", 60.0)  # a second try would be seen
    uri = f"{bucket[0]}/{kind}.wav"
    for read in (storage.read, storage.open_source, lambda uri: storage.open_ranges(uri, 8).read(8)):
        with pytest.raises(failures.Archived, match="archived by its storage; restore it first .InvalidObjectState"):
            read(uri)
    assert storage.read(f"{bucket[0]}/GLACIER_IR.wav") == b"no audio"


def test_a_listing_counts_what_is_in_an_archive(bucket):
    found = manifest.read(bucket[0])
    assert found.tracks.num_rows == 4
    (warning,) = found.warnings
    assert warning.startswith(
        "2 audio files in an archive (Glacier, Deep Archive, Azure's archive tier), the first: s3://cold/songs/"
    )
    assert warning.endswith("unless they are restored first, they fail as archived")


def test_a_run_fails_them_as_archived_and_goes_on(bucket, tiny, local, tmp_path, monkeypatch):
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(name, value)
    summary = run_job(bucket[0], str(tmp_path / "out"), model=tiny, endpoint_url=bucket[1])
    assert (summary.exit_code, summary.failed) == (3, {"archived": 2, "unsupported_format": 2})
    errors = {row["error_class"]: row["error"] for row in index.read(str(tmp_path / "out")).to_pylist()}
    assert "restore it first" in errors["archived"]
    assert "restore them, then" in ADVICE["archived"]


@pytest.mark.parametrize(
    ("said", "is_archived"),
    [
        ({"StorageClass": "DEEP_ARCHIVE"}, True),
        ({"StorageClass": "STANDARD_IA"}, False),
        ({"storageClass": "ARCHIVE"}, False),  # of Google, which is read at once
        ({"blob_tier": "Archive"}, True),
        ({"blob_tier": "Cool"}, False),
        ({"blob_tier": None}, False),
    ],
)
def test_what_a_listing_says_of_an_objects_class(said, is_archived):
    assert info_of("s3://b/k", {"size": 1, "ETag": "x"} | said).is_archived == is_archived
