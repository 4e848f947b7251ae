"""Batches of patches of several calls at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sep_batch.model.batching import Batches

SIZE = 4


class Device:
    """Notes the batches that it is given; each takes until `free` is set."""

    def __init__(self, *, threads=1):
        self.batches, self.free = [], threading.Event()
        self.queue = Batches(self.compute, size=SIZE, threads=threads)

    def compute(self, kind, patches):
        self.batches.append((kind, list(patches)))
        assert self.free.wait(10)
        return [patch * 10 for patch in patches]

    def call(self, patches, kind="a"):
        return list(self.queue.results((kind, patch) for patch in patches))


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def calls():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("threads", [1, 3])
def test_each_call_gets_its_own_results_in_order_however_many_go_on_at_once(calls, threads):
    device = Device(threads=threads)
    device.free.set()
    numbers = [list(range(start, start + 50 + start // 100)) for start in range(0, 800, 100)]
    assert list(calls.map(device.call, numbers)) == [[10 * number for number in own] for own in numbers]


def test_the_last_patches_of_a_call_share_a_batch_with_the_first_of_the_next(device, calls):
    first = calls.submit(device.call, range(6))
    wait_for(lambda: device.batches)
    second = calls.submit(device.call, range(100, 104))
    wait_for(lambda: len(device.queue._queue) == 6)
    device.free.set()
    assert [*first.result(), *second.result()] == [10 * number for number in (*range(6), *range(100, 104))]
    assert [patches for _, patches in device.batches] == [[0, 1, 2, 3], [4, 5, 100, 101], [102, 103]]


def test_a_batch_that_is_not_full_waits_while_another_one_is_at_work(calls):
    device = Device(threads=2)
    first = calls.submit(device.call, range(SIZE + 1))
    wait_for(lambda: device.batches)
    time.sleep(0.05)
    assert [len(patches) for _, patches in device.batches] == [SIZE]  # the second thread leaves the last patch
    device.free.set()
    assert len(first.result()) == SIZE + 1


def test_an_idle_device_takes_what_there_is(device):
    device.free.set()
    assert device.call([1]) == [10]


def test_a_batch_has_patches_of_one_kind(device, calls):
    first = calls.submit(device.call, range(6), "a")
    wait_for(lambda: device.batches)
    second = calls.submit(device.call, range(100, 106), "b")
    wait_for(lambda: len(device.queue._queue) == 8)
    device.free.set()
    assert first.result()[-1] == 50
    assert second.result()[-1] == 1050
    assert [(kind, len(patches)) for kind, patches in device.batches] == [("a", 4), ("a", 2), ("b", 4), ("b", 2)]


def test_an_error_reaches_the_calls_of_its_batch_and_no_others(calls):
    def compute(_kind, patches):
        if 1 in patches:
            raise ValueError("a broken patch")
        return patches

    queue = Batches(compute, size=1, threads=2)
    broken, whole = (
        calls.submit(lambda own=own: list(queue.results(("a", number) for number in own))) for own in ([0, 1, 2], [3, 4])
    )
    with pytest.raises(ValueError, match="a broken patch"):
        broken.result()
    assert whole.result() == [3, 4]


def test_patches_of_a_call_that_has_ended_are_not_computed(device):
    results = device.queue.results(("a", number) for number in range(8))
    device.free.set()
    assert next(results) == 0
    wait_for(lambda: not device.queue._at_work)
    device.free.clear()
    results.close()
    before = len(device.batches)
    device.free.set()
    assert device.call([7]) == [70]
    assert device.batches[before:] == [("a", [7])]


def test_at_most_a_batch_more_than_there_are_threads_is_ahead_of_what_was_taken(device):
    taken = []
    results = device.queue.results(("a", taken.append(number) or number) for number in range(100))
    device.free.set()
    next(results)
    assert len(taken) == 2 * SIZE
    results.close()
