from __future__ import annotations

import io

import pytest

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import decode_guard
from sep_batch.pipeline.audio.decode_guard import DecodeGuard


@pytest.fixture
def memory(monkeypatch):
    """What the process takes, as a test sets it: a list of one number of bytes."""
    taken = [1 << 30]
    monkeypatch.setattr(DecodeGuard, "private_bytes", lambda _watched: taken[0])
    return taken


def test_a_watched_source_reads_as_the_source_does():
    watched = DecodeGuard(io.BytesIO(b"0123456789"))
    assert watched.read(3) == b"012"
    assert watched.seek(-2, io.SEEK_END) == watched.tell() == 8
    assert (watched.read(5), watched.read(5)) == (b"89", b"")
    watched.settle()


def test_a_call_that_grows_by_too_much_is_ended_and_says_so(memory):
    watched = DecodeGuard(io.BytesIO(bytes(100)))
    assert watched.read(10) == bytes(10)
    memory[0] += decode_guard.MAX_GROWN_BYTES + 1
    assert watched.read(10) == b""
    with pytest.raises(errors.DecodeError, match="unpack to more than 512 MB"):
        watched.settle()


def test_what_grew_between_two_calls_is_not_this_files_doing(memory):
    watched = DecodeGuard(io.BytesIO(bytes(100)))
    for _ in range(5):
        assert watched.read(10) == bytes(10)
        watched.settle()
        memory[0] += decode_guard.MAX_GROWN_BYTES + 1


def test_a_file_that_takes_longer_than_it_lasts_is_ended_and_says_so(monkeypatch):
    spent = [100.0]
    monkeypatch.setattr(decode_guard.time, "thread_time", lambda: spent[0])
    watched = DecodeGuard(io.BytesIO(bytes(100)))
    watched.decoded_s = 30.0
    spent[0] += decode_guard.PATIENCE_S + 29
    assert watched.read(10) == bytes(10)
    watched.settle()
    spent[0] += 2
    assert watched.read(10) == b""
    with pytest.raises(errors.DecodeError, match=r"decoding took 91 s of CPU time for 30\.0 s of audio"):
        watched.settle()


def test_what_reading_raises_is_raised_once_the_call_ends():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise errors.FetchTimeout("the storage went away")

    watched = DecodeGuard(Broken(bytes(100)))
    assert watched.read(10) == watched.read(10) == b""
    with pytest.raises(errors.FetchTimeout, match="went away"):
        watched.settle()


def test_the_memory_of_this_process_is_seen():
    watched = DecodeGuard(io.BytesIO())
    before = watched.private_bytes()
    held = bytearray(256 << 20)
    held[::4096] = b"x" * len(held[::4096])
    assert watched.private_bytes() - before > 128 << 20  # other tests' memory may be given back meanwhile
