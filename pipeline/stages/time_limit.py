"""A time limit that also holds in C code: a worker that exceeds it is killed, after recording its track's id.

A stage that hangs (in a decoder, in a GPU driver) cannot be interrupted from Python, but its process can be ended. The driver
finds the track missing and retries it alone; a mark that the dying worker stores for a track that is alone then makes it a
`track_timeout` instead of a `worker_crash`. Where the stages share the driver's process, their flow keeps the limit instead.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.stages.context import RunContext

GRACE_S = 60.0  # after the limit, to store the mark, before the process is ended from C
_STDERR = 2  # file descriptor, since sys.stderr may be replaced
T = TypeVar("T")
_LOCK = threading.Lock()
_ends_at = dict[object, float]()  # by the calls at work; faulthandler holds one time only


def limited(rows: Iterator[T], ids: list[str], work: RunContext) -> Iterator[T]:
    """Yield a stage's rows, with the time limit for each.

    Args:
        rows: Rows of the stage, which computes each one when it is read.
        ids: Ids of the rows' tracks.
        work: Context of the run.
    """
    if work.has_ended is not None:
        yield from rows
        return
    while True:
        timer = threading.Timer(work.limit_s, _end, (ids, work))
        timer.daemon = True
        timer.start()
        _watch(timer, work.limit_s + GRACE_S)
        try:
            row = next(rows, None)
        finally:
            timer.cancel()
            _watch(timer, None)
        if row is None:
            return
        yield row
        del row  # before the next one is computed: a part's spectrum is large


def _watch(call: object, seconds: float | None) -> None:
    """End the process from C once one of the calls at work takes that many seconds; None is the end of a call."""
    with _LOCK:
        if seconds is None:
            del _ends_at[call]
        else:
            _ends_at[call] = time.monotonic() + seconds
        if _ends_at:
            left_s = max(min(_ends_at.values()) - time.monotonic(), 1e-3)
            faulthandler.dump_traceback_later(left_s, exit=True, file=_STDERR)
        else:
            faulthandler.cancel_dump_traceback_later()


def was_over(name: str, work: RunContext) -> bool:
    """Tell whether a track was over the time limit, alone."""
    return storage.exists(_mark_uri(name, work))


def mark(name: str, work: RunContext) -> None:
    """Record that a track was over the time limit."""
    with contextlib.suppress(errors.TrackError):  # without the mark it becomes a worker_crash
        storage.put(_mark_uri(name, work), b"", scratch=work.scratch)


def _end(ids: list[str], work: RunContext) -> None:
    faulthandler.dump_traceback(file=_STDERR)
    if len(ids) == 1:
        mark(ids[0], work)
    os._exit(1)


def _mark_uri(name: str, work: RunContext) -> str:
    return f"{work.parts}/over/{name}"
