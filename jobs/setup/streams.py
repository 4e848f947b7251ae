"""Stdout and stderr: what cannot be written is lost and ends nothing, and what libraries write past Python is kept apart.

A run that has done its work has done it, whether or not somebody reads on: `sep-batch run ... | head`, a terminal that is gone, a
full disk behind `> log`. So its exit code tells of the run, and not of its words.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2


def protect() -> None:
    """Have Python write to stdout and stderr so that no error of theirs ends the process, and no text is refused.

    Stderr gets a descriptor of its own, so that what libraries write past Python can be told apart. Descriptors 0 to 2 that are
    closed are opened on nothing, or the next file that is opened would take their place.
    """
    for number in (0, STDOUT, STDERR):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stderr = _text(os.dup(STDERR), sys.stderr, notices=None)
    sys.stdout = _text(os.dup(STDOUT), sys.stdout, notices=sys.stderr)


def _text(descriptor: int, former: TextIO | None, notices: TextIO | None) -> TextIO:
    raw = _Lossy(descriptor, notices)
    encoding = former.encoding if former else "utf-8"
    is_line_by_line = notices is None or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=is_line_by_line)


class _Lossy(io.FileIO):
    """A file descriptor to write to, of which errors lose what was written."""

    def __init__(self, descriptor: int, notices: TextIO | None) -> None:
        """Take the descriptor, and where to say once that text is lost, unless its reader left."""
        super().__init__(descriptor, "w")
        self._told = notices

    def write(self, content: ReadableBuffer, /) -> int:
        """Write some of it, and return how much was taken or lost."""
        count: int | None = None
        try:
            while (count := super().write(content)) is None:  # a pipe that does not block, and is full
                select.select([], [self], [])
        except OSError as error:
            if self._told and error.errno not in (errno.EPIPE, errno.EIO):
                print(f"stdout: {error.strerror}: some of the output is lost", file=self._told)
            self._told = None
            return memoryview(content).nbytes
        return count


@contextlib.contextmanager
def last_words(text: str) -> Iterator[None]:
    """Have a line be written to stderr where the process ends within the block without leaving it: where it is killed.

    A shell waits for it, since nothing of a process runs after that; signals of the terminal are not its own.
    """
    try:
        stderr: int | None = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # it is no file
        stderr = None
    command = ["/bin/sh", "-c", 'trap "" HUP INT TERM; read -r _ || printf "%s\\n" "$0" >&2', text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr) as shell:  # noqa: S603 (ours)
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):  # somebody ended the shell
                shell.communicate(b"left\n")


@contextlib.contextmanager
def native_dropped() -> Iterator[None]:
    """Drop what libraries, as Ray, write to stderr past Python until the block ends, where it can be told apart."""
    try:
        is_apart = sys.stderr.fileno() != STDERR
    except (AttributeError, OSError, ValueError):  # it is no file
        is_apart = False
    if not is_apart:
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
