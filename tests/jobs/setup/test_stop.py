from __future__ import annotations

import threading
import time
from datetime import datetime

import pytest

from sep_batch.jobs.setup import stop
from sep_batch.pipeline import errors


def local(text, fold=0):
    """Return a time of this machine's clock."""
    return datetime.fromisoformat(text).replace(fold=fold)


NOON = local("2026-03-01T12:00")
CENTRAL_EUROPE = "CET-1CEST,M3.5.0,M10.5.0/3"  # in 2026, summer begins on 29 March, at 2, and ends on 25 October, at 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6h", 21_600), ("90m", 5_400), ("1h30m", 5_400), ("45s", 45), ("12:30", 1_800), ("06:00", 18 * 3600), ("05:59", 64_740)],
)
def test_a_deadline_is_a_duration_or_the_next_time_that_a_clock_shows(text, seconds):
    assert stop.seconds_until(text, NOON) == seconds


@pytest.mark.parametrize(
    ("text", "ago", "left"), [("12:00", "0m", "24h0m"), ("11:55", "5m", "23h55m"), ("06:01", "5h59m", "18h1m")]
)
def test_a_run_that_was_begun_less_than_6_hours_after_its_deadline_is_not_for_tomorrow(text, ago, left):
    with pytest.raises(errors.DeadlinePassedError, match=f"--deadline {text} was {ago} ago: .*--deadline {left}$") as passed:
        stop.seconds_until(text, NOON)
    assert passed.value.exit_code == 7
    assert stop.seconds_until(left, NOON) > 0


def test_a_deadline_of_last_evening_has_passed_after_midnight_too():
    assert stop.seconds_until("06:00", local("2026-03-01T22:00")) == 8 * 3600
    with pytest.raises(errors.DeadlinePassedError, match="23:00 was 1h5m ago"):
        stop.seconds_until("23:00", local("2026-03-02T00:05"))


@pytest.fixture
def central_europe(monkeypatch):
    """The clock of Central Europe, whose days have 23 and 25 hours once a year."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", CENTRAL_EUROPE)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        (local("2026-03-28T22:00"), 7),
        (local("2026-10-24T22:00"), 9),
        (local("2026-10-25T02:00", fold=0), 5),
        (local("2026-10-25T02:00", fold=1), 4),
        (local("2026-11-24T22:00"), 8),
        (local("2026-03-28T12:00"), 17),
    ],
)
def test_a_deadline_is_what_the_clock_on_the_wall_shows_where_summer_time_begins_or_ends(central_europe, now, hours):
    assert stop.seconds_until("06:00", now) == hours * 3600


@pytest.mark.parametrize("text", ["", "h", "6", "6d", "24:00", "6:00", "12:60", "-1h", "1.5h", "h6"])
def test_what_is_no_deadline_is_refused_with_what_was_expected(text):
    with pytest.raises(errors.UsageError, match=r"--deadline .*6h or 1h30m, or a time of day, as 06:00"):
        stop.seconds_until(text, NOON)


def test_a_deadline_asks_by_itself(monkeypatch):
    monkeypatch.setattr(stop, "DRAIN_S", 2.0)
    ends = stop.Stop()
    ends.end_after(1.0)
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
