"""Progress of a run as text: a live display on a terminal, lines of the log elsewhere."""

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
from sep_batch.pipeline import errors
from sep_batch.pipeline.storage.uris import shown

FAILED_SHOWN = 20  # failed tracks that a run logs; the index names them all
REFRESHES_HZ = 4.0
LOGGER = logging.getLogger("sep_batch")


class Watcher:
    """Receiver of a run's events. This base class ignores all of them."""

    def watching(self, standing: RunState) -> AbstractContextManager[None]:
        """Watch a run until the block ends."""
        return contextlib.nullcontext()

    def started(self, standing: RunState) -> None:
        """Handle the start of the flow."""

    def ticked(self, standing: RunState) -> None:
        """Handle the ten-second tick, in a thread of its own."""

    def failed(self, standing: RunState, row: Mapping[str, Any]) -> None:
        """Handle one failed row."""

    def stopping(self, standing: RunState, why: str) -> None:
        """Handle the early end of the run."""

    def ended(self, summary: Summary) -> None:
        """Handle the end of the run."""


class Display(Watcher):
    """A live display of a few lines; other output appears above it, and it disappears when the run is over.

    Each print first erases as many lines as the display had when the print was rendered, so only one thread at a time may
    render and write: if a frame of fewer lines came in between, lines above the display would be erased. rich's own
    refreshing thread and its redirection of stdout and stderr do not ensure that.
    """

    def __init__(self, console: Console) -> None:
        """Take the terminal's console."""
        self._console = console

    @contextlib.contextmanager
    def watching(self, standing: RunState) -> Iterator[None]:
        """Show the display until the block ends, and leave the terminal as it was."""
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
    """Redraw the display several times a second, under the lock, until the block ends."""

    def refresh() -> None:
        with lock:
            live.refresh()

    return every(1 / REFRESHES_HZ, refresh, thread_name="display")


@contextlib.contextmanager
def _output_kept(console: Console) -> Iterator[None]:
    """Keep Ctrl-C from dropping output that is on its way to the terminal, until the block ends.

    By default a terminal's driver drops it. The next frame would then erase lines above the display instead of the dropped ones.
    """
    try:
        descriptor = console.file.fileno()
        before = termios.tcgetattr(descriptor)
    except (OSError, ValueError, termios.error):  # not a terminal of the operating system
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
    """Return the display: a bar as wide as the terminal once the tracks are known, and a few lines that wrap."""
    lines = [Text(line) for line in standing.lines()]
    if not standing.todo:
        return Group(*lines)
    bar = ProgressBar(total=standing.todo, completed=standing.summary.tried)
    return Group(Padding(bar), *lines)  # with padding of 0: a bar alone does not end its line


class Lines(Watcher):
    """Log lines: failed tracks as they occur, and the progress where there is no display."""

    def __init__(self, *, progress: bool) -> None:
        """With `progress`, log the progress too."""
        self._progress, self._failed = progress, 0

    @contextlib.contextmanager
    def watching(self, standing: RunState) -> Iterator[None]:
        """Log the progress once more when the flow is over."""
        yield
        if standing.summary.tried:
            self.ticked(standing)

    def ticked(self, standing: RunState) -> None:
        """Log the progress in one line."""
        if self._progress:
            LOGGER.info("; ".join(standing.lines()))

    def failed(self, standing: RunState, row: Mapping[str, Any]) -> None:
        """Log a failed track in one line; only the first `FAILED_SHOWN` of a run."""
        self._failed += 1
        if self._failed <= FAILED_SHOWN:
            message = errors.last_line(row["error"])
            source = shown(row["uri"]) if row["uri"] else row["id"]  # a bad row of the manifest may have none
            source += f" from {row['offset_s']:g} s" if row["offset_s"] else ""
            LOGGER.warning("failed: %s: %s: %s", source, row["error_class"], message, extra={"track": row["id"]})
        if self._failed == FAILED_SHOWN:
            LOGGER.warning("further failed tracks are only counted")

    def stopping(self, standing: RunState, why: str) -> None:
        """Log the early end of the run, where there is no display."""
        if self._progress:
            LOGGER.warning(standing.doing)
