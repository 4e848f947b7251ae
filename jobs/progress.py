"""The progress of a run: one live line on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

PLAIN_EVERY_S = 10.0


class Progress:
    """Counts finished tracks and shows them."""

    def __init__(self, console: Console | None) -> None:
        """Show on a console, or nowhere."""
        self._console = console
        self._bar: Bar | None = None
        self._total = self._done = self._failed = 0
        self._audio_s = 0.0
        self._begun = self._shown = time.monotonic()

    @classmethod
    def silent(cls) -> Self:
        """Show nothing."""
        return cls(None)

    @contextmanager
    def showing(self, total: int) -> Iterator[None]:
        """Show the progress of so many tracks until the block ends."""
        self._total, self._begun = total, time.monotonic()
        self._shown = self._begun
        if self._console is None or not self._console.is_terminal:
            yield
            return
        with Bar(BarColumn(16), TextColumn("{task.description}"), console=self._console, transient=False) as bar:
            self._bar = bar
            bar.add_task(self.line(), total=total)
            yield

    def advance(self, audio_s: float, *, failed: bool) -> None:
        """Count one finished track."""
        self._done += 1
        self._failed += failed
        self._audio_s += 0.0 if failed else audio_s
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=self.line())
        elif time.monotonic() - self._shown >= PLAIN_EVERY_S or self._done == self._total:
            self._print()

    def line(self) -> str:
        """Return tracks, failed, audio hours, x real time, and the time left."""
        passed = time.monotonic() - self._begun
        left = timedelta(seconds=round(passed / self._done * (self._total - self._done))) if self._done else "-"
        speed = self._audio_s / passed if passed else 0.0
        return (
            f"{self._done}/{self._total} tracks, {self._failed} failed, {self._audio_s / 3600:.2f} h, "
            f"{speed:.1f} x real time, ETA {left}"
        )

    def _print(self) -> None:
        self._shown = time.monotonic()
        if self._console:
            self._console.print(self.line(), highlight=False, soft_wrap=True)
