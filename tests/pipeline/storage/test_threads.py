from __future__ import annotations

import threading
import time

import pytest

from sep_batch.pipeline.storage.threads import AHEAD, in_threads


def test_results_come_in_the_order_of_the_questions():
    def slow_first(number):
        time.sleep(0.02 if number % 7 == 0 else 0)
        return number * 2

    assert list(in_threads(slow_first, range(200), threads=4)) == [2 * number for number in range(200)]


def test_calls_wait_together():
    together = threading.Barrier(8, timeout=5)
    assert len(list(in_threads(lambda _number: together.wait(), range(8), threads=8))) == 8


def test_of_an_endless_list_only_some_are_begun():
    begun = []
    results = in_threads(begun.append, iter(range(10**9)), threads=2)
    next(results)
    assert len(begun) <= 2 * AHEAD
    results.close()


def test_an_error_ends_it_and_what_has_not_begun_never_does():
    begun = []

    def fails(number):
        begun.append(number)
        time.sleep(0.01)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(in_threads(fails, range(100), threads=1))
    assert len(begun) < 5
