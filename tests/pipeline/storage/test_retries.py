from __future__ import annotations

import errno
import io

import pytest

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import retries


class ClientError(Exception):
    """What S3's client raises."""

    __module__ = "botocore.exceptions"

    def __init__(self, code):
        super().__init__(f"An error occurred ({code})")
        self.response = {"Error": {"Code": code}}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.0)


def failing(times, error, decorate=retries.reading):
    """A storage call that raises so often before it answers, and the list of its calls."""
    calls = []

    @decorate
    def call(uri):
        calls.append(uri)
        if len(calls) <= times:
            raise error
        return "answer"

    return call, calls


def caused(cause, error):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error", [ConnectionResetError("reset"), TimeoutError(), ClientError("SlowDown"), OSError(errno.EIO, "x")]
)
@pytest.mark.parametrize("decorate", [retries.reading, retries.writing])
def test_what_may_pass_is_tried_again(error, decorate):
    call, calls = failing(3, error, decorate)
    assert call("s3://b/k") == "answer"
    assert len(calls) == 4


def test_what_does_not_pass_is_raised_after_the_last_try():
    call, calls = failing(99, ConnectionResetError("reset"))
    with pytest.raises(errors.FetchTimeout, match="s3://b/k: reset"):
        call("s3://b/k")
    assert len(calls) == retries.TRIES


def test_a_disk_is_asked_once():
    call, calls = failing(99, OSError(errno.EIO, "broken"))
    with pytest.raises(errors.FetchTimeout):
        call("/music/a.wav")
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (FileNotFoundError("k"), errors.NotFound),
        (PermissionError("Forbidden"), errors.AccessDenied),
        (caused(ClientError("AccessDenied"), PermissionError("Access Denied")), errors.AccessDenied),
        (caused(ClientError("NoSuchBucket"), FileNotFoundError("b")), errors.StorageUnusable),
        (caused(ClientError("ExpiredToken"), PermissionError("expired")), errors.StorageUnusable),
        (caused(ClientError("SignatureDoesNotMatch"), PermissionError("no")), errors.StorageUnusable),
    ],
)
def test_what_does_not_pass_is_not_tried_again(raised, expected):
    call, calls = failing(99, raised)
    with pytest.raises(expected):
        call("s3://b/k")
    assert len(calls) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_the_storages_fault(number):
    call, _ = failing(99, OSError(number, "full"), retries.writing)
    with pytest.raises(errors.StorageUnusable):
        call("/out/a.flac")


def test_a_write_that_is_refused_is_a_write_error():
    call, calls = failing(99, PermissionError("no"), retries.writing)
    with pytest.raises(errors.WriteFailed, match="could not be written"):
        call("s3://b/k")
    assert len(calls) == 1


def test_a_defect_of_ours_is_neither_mapped_nor_tried_again():
    call, calls = failing(99, KeyError("x"))
    with pytest.raises(KeyError):
        call("s3://b/k")
    assert len(calls) == 1


class TransportError(Exception):
    """The network between Google's credentials and who renews them."""


class RefreshError(Exception):
    """Credentials of Google that were not renewed."""

    __module__ = "google.auth.exceptions"


@pytest.mark.parametrize(("cause", "kind"), [(TransportError(), errors.FetchTimeout), (None, errors.StorageUnusable)])
def test_credentials_of_google_that_were_not_renewed_are_tried_again_where_the_network_failed(cause, kind):
    from gcsfs.retry import HttpError

    error = caused(caused(cause, RefreshError()), HttpError({"code": 401, "message": "Invalid Credentials"}))
    call, calls = failing(99, error)
    with pytest.raises(kind):
        call("gs://b/k")
    assert len(calls) == (retries.TRIES if cause else 1)


class Torn(io.BytesIO):
    """A remote file that breaks off, or gives too little, at every other read."""

    def __init__(self, content, *, short):
        super().__init__(content)
        self.size, self._short, self._reads = len(content), short, 0

    def read(self, size=-1):
        self._reads += 1
        if self._reads % 2 and self._short:
            return super().read(min(size, 3))
        if self._reads % 2:
            raise ConnectionResetError
        return super().read(size)


@pytest.mark.parametrize("short", [True, False])
def test_a_range_that_breaks_off_or_comes_short_is_read_again(short):
    content = bytes(range(200))
    source = storage.Ranges("s3://b/k", Torn(content, short=short))
    assert b"".join(iter(lambda: source.read(64), b"")) == content
    assert source.seek(10) == source.tell() == 10
    assert source.read(2) == content[10:12]


def test_an_object_is_created_once_only(tmp_path):
    for folder in (str(tmp_path), "memory://created"):
        assert storage.create(f"{folder}/lease/1.json", b"ours")
        assert storage.create(f"{folder}/lease/1.json", b"ours")  # our own, whose answer was lost
        assert not storage.create(f"{folder}/lease/1.json", b"theirs")
        assert storage.read(f"{folder}/lease/1.json") == b"ours"
