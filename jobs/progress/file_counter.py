"""Progress of a listing: one live line on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

PLAIN_EVERY_S = 10.0


class FileCounter:
    """Counts the files of one step after another, and shows how many there are."""

    def __init__(self, console: Console | None = None) -> None:
        """Show on a console, or nowhere."""
        self._console = console

    @contextmanager
    def step(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a step until the block ends, and yield what is to be told of so many files more.

        Args:
            what: Name of the step, as `probed`.
            total: How many files there are, where that is known.
        """
        is_live = self._console is not None and self._console.is_terminal
        bar = Bar(BarColumn(16), TextColumn("{task.description}"), console=self._console, transient=True) if is_live else None
        begun = shown = time.monotonic()
        done = 0

        def seen(count: int) -> None:
            nonlocal done, shown
            done += count
            now = time.monotonic()
            if bar:
                bar.update(bar.task_ids[0], completed=done, description=line(what, done, total, now - begun))
            elif self._console and now - shown >= PLAIN_EVERY_S:
                shown = now
                self._console.print(line(what, done, total, now - begun), highlight=False, soft_wrap=True)

        with bar or nullcontext():
            if bar:
                bar.add_task(what, total=total)
            yield seen


def line(what: str, done: int, total: int | None, seconds: float) -> str:
    """Return how many files are done, how fast that goes, and how long the rest will take."""
    speed = done / seconds if seconds else 0.0
    left = f" of {total:,} files {what}" if total is not None else f" files {what}"
    eta = f", ETA {timedelta(seconds=round((total - done) / speed))}" if total is not None and speed else ""
    return f"{done:,}{left}, {speed:,.0f}/s{eta}"
