from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import pytest

from sep_batch.jobs import stop
from sep_batch.pipeline import failures

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6h", 21_600), ("90m", 5_400), ("1h30m", 5_400), ("45s", 45), ("12:30", 1_800), ("06:00", 18 * 3600), ("12:00", 24 * 3600)],
)
def test_a_deadline_is_a_duration_or_the_next_time_that_a_clock_shows(text, seconds):
    assert stop.seconds_until(text, NOON) == seconds


@pytest.mark.parametrize("text", ["", "h", "6", "6d", "24:00", "6:00", "12:60", "-1h", "1.5h", "h6"])
def test_what_is_no_deadline_is_refused_with_what_was_expected(text):
    with pytest.raises(failures.UsageError, match=r"--deadline .*6h or 1h30m, or a time of day, as 06:00"):
        stop.seconds_until(text, NOON)


def test_a_deadline_asks_by_itself(monkeypatch):
    monkeypatch.setattr(stop, "DRAIN_S", 2.0)
    ends = stop.Stop(deadline_s=1.0)
    assert not ends.is_asked
    time.sleep(1.05)
    assert ends.is_asked
    assert not ends.is_over
    time.sleep(2.05)
    assert ends.is_over


def test_the_first_reason_stays():
    ends = stop.Stop()
    ends.ask("one")
    ends.ask("two")
    assert ends.why == "one"


def test_ticking_gives_what_comes_and_tells_that_time_passes(monkeypatch):
    monkeypatch.setattr(stop, "TICK_S", 0.05)

    def slowly():
        yield 1
        time.sleep(0.3)
        yield 2

    came = list(stop.ticking(slowly()))
    assert [one for one in came if one is not None] == [1, 2]
    assert came.count(None) >= 2


def test_ticking_raises_what_the_iterator_raised_after_what_it_gave():
    def broken():
        yield 1
        raise ZeroDivisionError

    ticks = stop.ticking(broken())
    assert next(ticks) == 1
    with pytest.raises(ZeroDivisionError):
        list(ticks)


def test_a_consumer_that_takes_nothing_has_few_rows_waiting_and_every_one_of_them_comes_in_order(monkeypatch):
    monkeypatch.setattr(stop, "WAITING", 10)
    given = []
    ticks = stop.ticking(given.append(number) or number for number in range(100))
    assert next(ticks) == 0
    time.sleep(0.3)
    assert len(given) == 1 + 10 + 1  # taken, waiting, in the thread's hand
    assert list(ticks) == list(range(1, 100))


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_consumer_that_leaves_early_frees_the_thread_that_waits_for_room(monkeypatch, is_broken):
    monkeypatch.setattr(stop, "WAITING", 3)

    def rows():
        yield from range(4)
        if is_broken:
            raise ZeroDivisionError
        yield from range(96)

    before = set(threading.enumerate())
    ticks = stop.ticking(rows())
    assert next(ticks) == 0
    (thread,) = set(threading.enumerate()) - before
    time.sleep(0.2)
    assert thread.is_alive()
    ticks.close()
    thread.join(5)
    assert not thread.is_alive()
