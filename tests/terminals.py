"""A terminal for tests: a command runs on a pseudo-terminal, and what a person would see of it can be read."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

_PIECES = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")

_TAKE_TERMINAL = (  # so that Ctrl-C becomes a signal
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class Screen:
    """What a terminal shows: it knows the few sequences that rich writes, and refuses others.

    Attributes:
        lines: What stands on it, scrolled off included.
        is_cursor_visible: Whether a person sees where the next character goes.
        widest: Columns of the widest line that was written over later: of the display, whatever else wraps.
    """

    def __init__(self, columns: int) -> None:
        self.columns, self.lines, self.is_cursor_visible, self.widest = columns, [""], True, 0
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Take what a command wrote, whole sequences of it."""
        at = 0
        while at < len(text):
            piece = _PIECES.match(text, at)
            assert piece, f"an escape sequence that is not known: {text[at : at + 20]!r}"
            at = piece.end()
            parameters, command, move, printed = piece.groups()
            if command:
                self._obey(parameters, command)
            elif move:
                self._move(move)
            else:
                self._print(printed)

    def _obey(self, parameters: str, command: str) -> None:
        if parameters == "?25":
            self.is_cursor_visible = command == "h"
        elif command == "A":
            self._row -= int(parameters or 1)
            assert self._row >= 0
        elif command == "K":
            self.widest = max(self.widest, len(self.lines[self._row]))
            self.lines[self._row] = ""
        else:
            assert command == "m", f"an escape sequence that is not known: {parameters}{command}"

    def _move(self, move: str) -> None:
        if move == "\n":
            self._row += 1
            self.lines += [""] * (self._row + 1 - len(self.lines))
        self._column = 0 if move == "\r" else self._column

    def _print(self, printed: str) -> None:
        line = self.lines[self._row].ljust(self._column)
        self.lines[self._row] = line[: self._column] + printed + line[self._column + len(printed) :]
        self._column += len(printed)


class OnTerminal:
    """A command on a pseudo-terminal, in a session of its own as a shell starts it."""

    def __init__(self, command: list[str], columns: int, **options) -> None:
        self.screen, self._read = Screen(columns), b""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        command = [sys.executable, "-c", _TAKE_TERMINAL, *command]
        self.popen = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, **options)
        os.close(theirs)

    def press(self, key: bytes) -> None:
        """Type a key."""
        os.write(self._ours, key)

    @property
    def shown(self) -> str:
        """All that was written so far; a character that is cut in two comes with the rest of it."""
        return self._read.decode(errors="replace")

    def wait_for(self, words: str, limit_s: float) -> str:
        """Wait until these words were shown, and return all that was written so far."""
        limit = time.monotonic() + limit_s
        while words not in self.shown:
            more = self._take() and time.monotonic() < limit
            assert more or words in self.shown, f"{words!r} was never shown:\n{self.shown[-4000:]}"
        return self.shown

    def end(self, limit_s: float) -> int:
        """Wait for the end, have the screen show it all, and return the exit code."""
        limit = time.monotonic() + limit_s
        while self._take():
            assert time.monotonic() < limit, f"it did not end:\n{self.shown[-4000:]}"
        self.screen.feed(self.shown)
        return self.popen.wait(10)

    def _take(self) -> bool:
        """Read what there is; tell whether more may come."""
        if not select.select([self._ours], [], [], 0.2)[0]:
            return True
        try:
            self._read += os.read(self._ours, 1 << 16)
        except OSError:  # that is how a terminal says that nobody writes to it any more
            return False
        return True
