"""The clock of a process that works on several calls at once."""

from __future__ import annotations

import pytest

from sep_batch.pipeline.stages import shared_time
from sep_batch.pipeline.stages.shared_time import SharedTime


@pytest.fixture
def clock(monkeypatch):
    """A clock, and the time in seconds that a test sets."""
    time_s = [0.0]
    monkeypatch.setattr(shared_time.time, "perf_counter", lambda: time_s[0])
    return SharedTime(), time_s


def call(clock, time_s, spans):
    """Yield the time of each span of work, by the clock, as a stage takes it."""
    for span in spans:
        begun_s = clock.now_s()
        time_s[0] += span
        yield clock.now_s() - begun_s


def test_a_call_alone_has_all_the_time_but_that_in_which_its_results_are_taken(clock):
    results = clock[0].during(call(*clock, [2.0, 3.0]))
    assert next(results) == 2
    clock[1][0] += 100
    assert list(results) == [3]


def test_calls_at_once_share_the_time(clock):
    shared, time_s = clock

    def outer():
        begun_s = shared.now_s()
        time_s[0] += 1
        yield (*shared.during(call(shared, time_s, [4.0])), shared.now_s() - begun_s)

    assert list(shared.during(outer())) == [(2, 3)]  # four seconds of two calls, one of the first alone: five in all
