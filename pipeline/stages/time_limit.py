"""A time limit that holds in C code too: who is over it dies, and leaves word of whose track it was.

A stage that hangs (in a decoder, in a driver) cannot be interrupted from Python; its process can end. The driver finds the track
missing and tries it alone; where it was alone, the word that is left makes it a `track_timeout` instead of a `worker_crash`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
from collections.abc import Iterator
from typing import TypeVar

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.stages.context import RunContext

GRACE_S = 60.0  # after the limit, for the word to be left, before the process is ended from C
_STDERR = 2  # as a number, since sys.stderr may be anything
T = TypeVar("T")


def limited(rows: Iterator[T], ids: list[str], work: RunContext) -> Iterator[T]:
    """Yield a stage's rows, each of which may take as long as the limit says.

    Args:
        rows: Made by the stage while it is asked for the next one.
        ids: The tracks they are of.
        work: Settings and places of the run.
    """
    while True:
        timer = threading.Timer(work.limit_s, _end, (ids, work))
        timer.daemon = True
        timer.start()
        faulthandler.dump_traceback_later(work.limit_s + GRACE_S, exit=True, file=_STDERR)
        try:
            row = next(rows, None)
        finally:
            timer.cancel()
            faulthandler.cancel_dump_traceback_later()
        if row is None:
            return
        yield row
        del row  # before the next one is made: a part's spectrum is large


def was_over(name: str, work: RunContext) -> bool:
    """Tell whether a track's process ended over its limit."""
    return storage.exists(_word(name, work))


def _end(ids: list[str], work: RunContext) -> None:
    faulthandler.dump_traceback(file=_STDERR)
    if len(ids) == 1:
        with contextlib.suppress(errors.TrackError):  # without the word it is a worker_crash
            storage.put(_word(ids[0], work), b"", scratch=work.scratch)
    os._exit(1)


def _word(name: str, work: RunContext) -> str:
    return f"{work.parts}/over/{name}"
