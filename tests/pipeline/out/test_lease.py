from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from sep_batch.pipeline import errors as failures
from sep_batch.pipeline import storage
from sep_batch.pipeline.out import layout, lease
from sep_batch.pipeline.storage import retries


@pytest.fixture(params=["disk", "memory"])
def out(request, tmp_path):
    return str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}"


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    """Let a beat, a look and a death be as quick as a test."""
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    monkeypatch.setattr(lease, "LOOK_S", 0.02)
    monkeypatch.setattr(lease, "DEAD_S", 2.0)


@pytest.fixture
def silence(monkeypatch):
    """Let a death be quicker still, where no lease beats."""
    monkeypatch.setattr(lease, "DEAD_S", 0.3)


def elsewhere(out, number=1, *, age_s=0.0, **says):
    """Leave a lease of another machine, which wrote it so long ago by the storage's clock, where that is a disk."""
    says = {"machine": "other", "host": "far", "pid": 1, "run": "000007-abcd", "since": "then", "at": lease._now()} | says
    storage.put(uri := f"{layout.lease_folder(out)}/{number:06d}.json", json.dumps(says).encode())
    if age_s:
        then = time.time() - age_s
        os.utime(uri, (then, then))


@contextmanager
def beating(out, **says):
    """Have a run of another machine beat, within the block."""

    def beat():
        while not ended.wait(0.05):
            elsewhere(out, **says)

    ended = threading.Event()
    elsewhere(out, **says)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_one_holds_and_another_is_told_who(out):
    with lease.hold(out) as held:
        held.tell(run="000001-aaaa")
        with pytest.raises(failures.LeaseHeldError, match=rf"run 000001-aaaa on .* \(pid {os.getpid()}\)"), lease.hold(out):
            pass
        held.check()


def test_a_lease_that_was_ended_is_free_at_once(out):
    with lease.hold(out):
        pass
    begun = time.monotonic()
    with lease.hold(out) as held:
        held.check()
    assert time.monotonic() - begun < lease.DEAD_S


def test_only_the_highest_stays(out):
    for _ in range(3):
        with lease.hold(out):
            pass
    assert [found.uri.rpartition("/")[2] for found in storage.find(layout.lease_folder(out))] == ["000003.json"]


def test_a_lease_of_a_process_that_is_gone_is_taken_over_at_once(tmp_path):
    holds = "import os; from sep_batch.pipeline.out import lease; held = lease.hold('.'); held.__enter__()"
    subprocess.run([sys.executable, "-c", f"{holds}; os.kill(os.getpid(), 9)"], cwd=tmp_path, check=False)
    assert not json.loads(storage.read(f"{layout.lease_folder(str(tmp_path))}/000001.json")).get("ended")
    begun = time.monotonic()
    with lease.hold(str(tmp_path)):
        assert time.monotonic() - begun < lease.DEAD_S


def test_a_lease_that_beats_elsewhere_is_waited_for_as_long_as_asked(out):
    begun = time.monotonic()
    with beating(out), pytest.raises(failures.LeaseHeldError), lease.hold(out, wait_s=0.8):
        pass
    assert 0.8 <= time.monotonic() - begun < 5


HOUR_S = 3600.0


def at(ahead_s):
    """Return what a machine writes whose clock is so far ahead."""
    return (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()


@pytest.mark.parametrize("ahead_s", [-5 * HOUR_S, 0.0, 5 * HOUR_S])
@pytest.mark.usefixtures("silence")
def test_a_lease_that_fell_silent_elsewhere_is_taken_over_after_it_was_watched_whatever_its_clock_said(tmp_path, ahead_s):
    elsewhere(out := str(tmp_path), number=4, age_s=HOUR_S, at=at(ahead_s))
    begun = time.monotonic()
    with lease.hold(out) as held:
        assert lease.DEAD_S <= time.monotonic() - begun < 10
        held.check()
    assert lease.newest(out).number == 5


@pytest.mark.parametrize("ahead_s", [-HOUR_S, HOUR_S])
def test_a_lease_that_was_just_written_is_alive_at_once_whatever_its_clock_said(tmp_path, monkeypatch, ahead_s):
    monkeypatch.setattr(lease, "DEAD_S", 60.0)
    begun = time.monotonic()
    with beating(str(tmp_path), at=at(ahead_s)), pytest.raises(failures.LeaseHeldError), lease.hold(str(tmp_path)):
        pass
    assert time.monotonic() - begun < 30


@pytest.mark.usefixtures("silence")
def test_a_lease_from_before_the_storages_clock_was_set_back_is_watched(tmp_path):
    elsewhere(out := str(tmp_path), age_s=-HOUR_S)
    with lease.hold(out) as held:
        held.check()


def test_where_storage_tells_no_times_a_lease_is_watched_until_it_changes_or_is_dead():
    elsewhere(out := "memory://lease-without-times")
    assert storage.info(f"{layout.lease_folder(out)}/000001.json").modified is None
    with beating(out), pytest.raises(failures.LeaseHeldError, match="run 000007-abcd on far"), lease.hold(out):
        pass
    begun = time.monotonic()
    with lease.hold(out) as held:
        assert time.monotonic() - begun >= lease.DEAD_S
        held.check()


@pytest.mark.usefixtures("silence")
def test_what_is_no_lease_is_watched_as_one_that_fell_silent(out):
    storage.put(uri := f"{layout.lease_folder(out)}/000001.json", b"\0torn")
    if not out.startswith("memory"):
        os.utime(uri, (0, 0))
    with lease.hold(out) as held:
        held.check()


def test_an_empty_lease_as_a_full_disk_leaves_it_is_dead_at_once(out, monkeypatch):
    monkeypatch.setattr(lease, "DEAD_S", 60.0)
    storage.put(f"{layout.lease_folder(out)}/000001.json", b"")
    begun = time.monotonic()
    with lease.hold(out) as held:
        assert time.monotonic() - begun < 30
        held.check()


def test_who_was_taken_over_is_told_at_the_next_check(out):
    with lease.hold(out) as held:
        elsewhere(out, number=2)
        with pytest.raises(failures.LeaseHeldError, match="took it over"):
            held.check()


def test_a_holder_beats(out):
    with lease.hold(out):
        first = lease.newest(out).content
        time.sleep(0.5)
        assert lease.newest(out).content != first


def test_of_many_at_once_one_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "DEAD_S", 60.0)  # a busy machine may keep a holder from its beat
    elsewhere(str(tmp_path), ended=True)
    lost = threading.Barrier(8)  # who won holds the lease until all others have lost, or one of them died

    def try_it():
        try:
            with lease.hold(str(tmp_path)):
                lost.wait(30)
                return True
        except failures.LeaseHeldError:
            lost.wait(30)
            return False
        except BaseException:
            lost.abort()
            raise

    with ThreadPoolExecutor(8) as pool:
        tried = [pool.submit(try_it) for _ in range(8)]
    errors = [error for one in tried if (error := one.exception())]
    assert not [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    assert sorted(one.result() for one in tried) == [False] * 7 + [True]


def once_before(monkeypatch, name, does):
    """Have another run do something right before this one first calls a function of storage."""
    whole, waiting = getattr(storage, name), [does]

    def call(*arguments, **options):
        if waiting:
            waiting.pop()()
        return whole(*arguments, **options)

    monkeypatch.setattr(storage, name, call)


def taken_over(out, number):
    """Have another machine create a lease and remove those before it."""
    elsewhere(out, number=number)
    for older in range(1, number):
        storage.remove(f"{layout.lease_folder(out)}/{older:06d}.json")


def test_a_lease_that_was_removed_before_it_could_be_read_is_read_anew_from_the_listing(out, monkeypatch):
    elsewhere(out, ended=True)
    once_before(monkeypatch, "read", lambda: taken_over(out, 2))
    assert lease.newest(out).number == 2


def test_who_lists_a_lease_that_a_winner_removes_is_told_who_won(tmp_path, monkeypatch):
    elsewhere(out := str(tmp_path), ended=True)
    once_before(monkeypatch, "read", lambda: taken_over(out, 2))
    with pytest.raises(failures.LeaseHeldError, match="run 000007-abcd on far"), lease.hold(out):
        pass


def test_a_lease_that_is_listed_and_never_found_is_an_error_after_a_few_listings(out, monkeypatch):
    elsewhere(out)
    listings = []

    def read(uri):
        listings.append(uri)
        raise failures.NotFound(uri)

    monkeypatch.setattr(storage, "read", read)
    with pytest.raises(failures.NotFound):
        lease.newest(out)
    assert len(listings) == retries.LISTINGS


def test_a_lease_that_others_took_and_lost_meanwhile_is_not_taken_again(tmp_path, monkeypatch):
    elsewhere(out := str(tmp_path), ended=True)

    def two_others():
        elsewhere(out, number=2)
        taken_over(out, 3)

    once_before(monkeypatch, "create", two_others)
    with pytest.raises(failures.LeaseHeldError, match="run 000007-abcd on far"), lease.hold(out):
        pass
    assert lease._numbers(out) == [3]


@pytest.mark.parametrize("name", ["1.json", "0000000000000000009.json", "\u0663.json", "000002.json.bak", "9" * 200 + ".json"])
def test_a_file_that_no_run_names_so_is_no_lease(tmp_path, name):
    storage.put(f"{layout.lease_folder(str(tmp_path))}/{name}", b"{}")
    assert lease.newest(str(tmp_path)) is None
    with lease.hold(str(tmp_path)) as held:
        held.check()


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[1]", b"5", b"\xff{", b"{}"])
@pytest.mark.usefixtures("silence")
def test_a_lease_that_no_run_wrote_is_watched_and_taken(tmp_path, content):
    storage.put(uri := f"{layout.lease_folder(str(tmp_path))}/000001.json", content)
    os.utime(uri, (1e9, 1e9))
    with lease.hold(str(tmp_path)) as held:
        held.check()


def test_words_of_a_lease_bring_no_control_characters_into_messages_and_no_paths(tmp_path):
    elsewhere(str(tmp_path), run="../../\x1b[31m", host="far\x1b[2J\nnear", pid="x", since=5)
    found = lease.newest(str(tmp_path))
    assert str(found) == r"run ? on far\x1b[2J\nnear (pid ?) has been working on it since ?"
    assert "run" not in found.says


def test_an_out_that_is_a_link_to_nowhere_is_told_and_not_waited_for(tmp_path):
    (tmp_path / "out").symlink_to("/nowhere/disk")
    with pytest.raises(failures.WriteFailed, match="out is a link to a missing target"), lease.hold(str(tmp_path / "out")):
        pass
