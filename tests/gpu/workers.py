"""Functions in several processes at once: each prepares itself, waits for the others, and then measures."""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from threading import Barrier

from material import Setup

PREPARED_S, MEASURED_S = 90.0, 60.0  # longest times
_BARRIER: list[Barrier] = []


def together(setup: Setup, module: str, function: str, processes: int, *arguments: str) -> list[float]:
    """Call a function in several processes, and what it returns in all of them at the same time.

    Args:
        setup: First argument of the function.
        module: Name of its module.
        function: Its name; it returns a function without arguments, which returns a number.
        processes: Number of processes.
        arguments: Further arguments.

    Returns:
        The numbers.
    """
    fresh = dataclasses.replace(setup)  # without what it has made, which cannot be sent
    pool = _pool(processes)
    try:
        tasks = [pool.submit(_measured, fresh, module, function, *arguments) for _ in range(processes)]
        return [task.result(PREPARED_S + MEASURED_S) for task in tasks]
    except BaseException:
        _pool.cache_clear()  # its barrier is broken
        pool.shutdown(wait=False, cancel_futures=True)
        raise


@cache
def _pool(processes: int) -> ProcessPoolExecutor:
    """Return a pool that is kept: its processes have loaded torch already when the next function comes."""
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    return ProcessPoolExecutor(processes, context, initializer=_keep, initargs=(context.Barrier(processes),))


def _keep(barrier: Barrier) -> None:
    _BARRIER[:] = [barrier]


def _measured(setup: Setup, module: str, function: str, *arguments: str) -> float:
    prepare: Callable[..., Callable[[], float]] = getattr(importlib.import_module(module), function)
    try:
        measure = prepare(setup, *arguments)
    except BaseException:
        _BARRIER[0].abort()  # the others need not wait
        raise
    _BARRIER[0].wait(PREPARED_S)
    return measure()
