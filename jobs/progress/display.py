"""Progress of a run for a person: a live display on a terminal, lines of the log elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.text import Text

from sep_batch.jobs.progress.every import every
from sep_batch.jobs.progress.run_state import RunState
from sep_batch.jobs.progress.summary import Summary

FAILED_SHOWN = 20  # in a run; the index names them all
REFRESHES_HZ = 4.0
LOGGER = logging.getLogger("sep_batch")


class Watcher:
    """Told of what happens in a run. This one does nothing; each other does what it is for."""

    def watching(self, standing: RunState) -> AbstractContextManager[None]:
        """Watch a run until the block ends."""
        return contextlib.nullcontext()

    def started(self, standing: RunState) -> None:
        """Take it that the flow starts."""

    def ticked(self, standing: RunState) -> None:
        """Take it that ten seconds have passed; called from a thread of its own."""

    def failed(self, standing: RunState, row: Mapping[str, Any]) -> None:
        """Take one failed row."""

    def stopping(self, standing: RunState, why: str) -> None:
        """Take it that the run is ending early."""

    def ended(self, summary: Summary) -> None:
        """Take what the run did."""


class Display(Watcher):
    """A live display of a few lines, that is gone when the run is over; what is printed meanwhile stands above it.

    Each print first erases as many lines as the display had when the print was rendered, so only one thread at a time may
    render and write: where another frame of fewer lines came in between, lines above the display would be erased. rich's own
    refreshing thread and its redirection of stdout and stderr do not see to that.
    """

    def __init__(self, console: Console) -> None:
        """Take the terminal's console."""
        self._console = console

    @contextlib.contextmanager
    def watching(self, standing: RunState) -> Iterator[None]:
        """Show it, and leave the terminal as it was."""
        console, lock = self._console, threading.RLock()
        live = Live(
            get_renderable=lambda: drawn(standing),
            console=console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with (
            _output_kept(console),
            contextlib.redirect_stdout(_Locked(console, sys.stdout, lock)),
            contextlib.redirect_stderr(_Locked(console, sys.stderr, lock)),
        ):
            live.start()
            try:
                with _refreshing(live, lock):
                    yield
            finally:
                with lock:
                    live.stop()


class _Locked(FileProxy):
    """A stream whose lines a console prints above the display, under a lock."""

    def __init__(self, console: Console, stream: TextIO, lock: threading.RLock) -> None:
        super().__init__(console, stream)
        self._lock = lock

    def write(self, text: str) -> int:
        with self._lock:
            return super().write(text)

    def flush(self) -> None:
        with self._lock:
            super().flush()


def _refreshing(live: Live, lock: threading.RLock) -> contextlib.AbstractContextManager[None]:
    """Draw the display anew several times a second, under the lock, until the block ends."""

    def refresh() -> None:
        with lock:
            live.refresh()

    return every(1 / REFRESHES_HZ, refresh, thread_name="display")


@contextlib.contextmanager
def _output_kept(console: Console) -> Iterator[None]:
    """Have Ctrl-C drop no output that is on its way to the terminal, until the block ends.

    By default a terminal's driver drops it. The next frame would then erase lines above the display instead of the dropped ones.
    """
    try:
        descriptor = console.file.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):  # it is no terminal of the system's
        yield
        return
    local_modes = 3
    kept = [*before]
    kept[local_modes] |= termios.NOFLSH
    termios.tcsetattr(descriptor, termios.TCSANOW, kept)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


def drawn(standing: RunState) -> RenderableType:
    """Return what a terminal shows: a bar as wide as it is once the tracks are known, and a few lines that wrap."""
    lines = [Text(line) for line in standing.lines()]
    if not standing.todo:
        return Group(*lines)
    bar = ProgressBar(total=standing.todo, completed=standing.summary.tried)
    return Group(Padding(bar), *lines)  # padded by nothing: a bar alone does not end its line


class Lines(Watcher):
    """Lines of the log: failed tracks as they come, and where nothing is displayed, the progress."""

    def __init__(self, *, progress: bool) -> None:
        """Take whether the progress is told too."""
        self._progress, self._failed = progress, 0

    @contextlib.contextmanager
    def watching(self, standing: RunState) -> Iterator[None]:
        """Tell the progress once more when the flow is over."""
        yield
        if standing.summary.tried:
            self.ticked(standing)

    def ticked(self, standing: RunState) -> None:
        """Tell the progress in one line."""
        if self._progress:
            LOGGER.info("; ".join(standing.lines()))

    def failed(self, standing: RunState, row: Mapping[str, Any]) -> None:
        """Tell a failed track in one line; in a run of many, only the first ones."""
        self._failed += 1
        if self._failed <= FAILED_SHOWN:
            message = row["error"].strip().splitlines()[-1]  # of a traceback, what it ends with
            LOGGER.warning("failed: %s: %s: %s", row["id"], row["error_class"], message, extra={"track": row["id"]})
        if self._failed == FAILED_SHOWN:
            LOGGER.warning("further failed tracks are only counted")

    def stopping(self, standing: RunState, why: str) -> None:
        """Tell that the run is ending early, where that is not displayed."""
        if self._progress:
            LOGGER.warning(standing.doing)
