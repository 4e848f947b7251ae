"""Stdout and stderr: a failed write does not end the process, and libraries' own writes to stderr are kept apart.

The exit code reports the run and not its output: a reader that stops early (`sep-batch run ... | head`), a closed terminal or a
full disk behind `> log` lose text, but do not make a run fail.
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
    """Replace stdout and stderr by streams that accept any text and whose errors do not end the process.

    Python's stderr gets a descriptor of its own, so that libraries' writes to descriptor 2 can be dropped alone. Descriptors 0
    to 2 that are closed are opened on the null device; otherwise the next opened file would get their numbers.
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
    """A file descriptor for writing that drops text on errors."""

    def __init__(self, descriptor: int, notices: TextIO | None) -> None:
        """Take the descriptor, and the stream for one notice of lost text; there is none if the reader left."""
        super().__init__(descriptor, "w")
        self._notices = notices

    def write(self, content: ReadableBuffer, /) -> int:
        """Write or drop some of the content, and return its number of bytes."""
        count: int | None = None
        try:
            while (count := super().write(content)) is None:  # a pipe that does not block, and is full
                select.select([], [self], [])
        except OSError as error:
            if self._notices and error.errno not in (errno.EPIPE, errno.EIO):
                print(f"stdout: {error.strerror}: some of the output is lost", file=self._notices)
            self._notices = None
            return memoryview(content).nbytes
        return count


@contextlib.contextmanager
def last_words(text: str) -> Iterator[None]:
    """Write a line to stderr if the process ends within the block without leaving it, as when it is killed.

    A shell waits for that and writes the line, because a killed process runs no code. It ignores the terminal's signals.
    """
    try:
        stderr: int | None = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # stderr is not a file
        stderr = None
    command = ["/bin/sh", "-c", 'trap "" HUP INT TERM; read -r _ || printf "%s\\n" "$0" >&2', text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=stderr) as shell:  # noqa: S603 (a fixed command)
        try:
            yield
        finally:
            with contextlib.suppress(BrokenPipeError):  # the shell was ended by others
                shell.communicate(b"left\n")


@contextlib.contextmanager
def native_dropped() -> Iterator[None]:
    """Drop what libraries, as Ray, write to descriptor 2 until the block ends, if Python's stderr has one of its own."""
    try:
        is_apart = sys.stderr.fileno() != STDERR
    except (AttributeError, OSError, ValueError):  # stderr is not a file
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
