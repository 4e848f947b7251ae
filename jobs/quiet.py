"""What libraries write to stderr past Python, as Ray does while it starts, kept off a terminal that shows something."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

STDERR = 2


def move_stderr() -> None:
    """Have Python write to stderr by a descriptor of its own, so that what comes past it can be told apart."""
    sys.stderr = os.fdopen(os.dup(STDERR), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")


@contextlib.contextmanager
def natively() -> Iterator[None]:
    """Drop what comes past Python until the block ends, where stderr was moved: elsewhere it cannot be told apart."""
    try:
        is_moved = sys.stderr.fileno() != STDERR
    except (AttributeError, OSError, ValueError):  # it is no file
        is_moved = False
    if not is_moved:
        yield
        return
    kept, nowhere = os.dup(STDERR), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nowhere)
