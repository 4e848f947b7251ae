"""Progress of a listing: one live line on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from sep_batch.jobs.setup.units import clock

PLAIN_EVERY_S = 10.0


class FileCounter:
    """Counter of the files of each step, shown while the step runs."""

    def __init__(self, console: Console | None = None) -> None:
        """Show on a console, or nowhere."""
        self._console = console

    @contextmanager
    def step(self, name: str, total: int | None = None, *, noun: str = "files") -> Iterator[Callable[[int], None]]:
        """Show a step until the block ends, and yield a function that adds to its number of finished files.

        Args:
            name: Participle that names the step, as `probed`.
            total: Number of files; None if it is unknown.
            noun: Plural of what is counted.
        """
        is_live = self._console is not None and self._console.is_terminal
        bar = Bar(BarColumn(16), TextColumn("{task.description}"), console=self._console, transient=True) if is_live else None
        begun = shown = time.monotonic()
        done = 0

        def advance(count: int) -> None:
            nonlocal done, shown
            done += count
            now = time.monotonic()
            if bar:
                bar.update(bar.task_ids[0], completed=done, description=line(name, done, total, now - begun, noun))
            elif self._console and now - shown >= PLAIN_EVERY_S:
                shown = now
                self._console.print(line(name, done, total, now - begun, noun), highlight=False, soft_wrap=True)

        with bar or nullcontext():
            if bar:
                bar.add_task(name, total=total)
            yield advance


def line(name: str, done: int, total: int | None, seconds: float, noun: str = "files") -> str:
    """Return a line with the number of finished files, the speed, and the time left."""
    speed = done / seconds if seconds else 0.0
    files = f" of {total:,} {noun} {name}" if total is not None else f" {noun} {name}"
    eta = f", ETA {clock((total - done) / speed)}" if total is not None and speed else ""
    return f"{done:,}{files}, {speed:,.0f}/s{eta}"
