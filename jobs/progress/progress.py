"""The progress of a run: keeps where it stands, and tells those who watch it; one of them shows it.

The driver and jobs/run/run.py say what happens. A watcher is told of it at once, and every ten seconds where things stand.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Self

import pyarrow as pa
from rich.console import Console

from sep_batch.jobs.progress.display import Display, Lines, Watcher
from sep_batch.jobs.progress.every import every
from sep_batch.jobs.progress.json_events import Events
from sep_batch.jobs.progress.run_state import RunState
from sep_batch.jobs.progress.summary import Summary
from sep_batch.pipeline import errors

EVERY_S = 10.0


class Progress:
    """Keeps where a run stands, and tells its watchers."""

    def __init__(self, *watchers: Watcher) -> None:
        """Tell these; without any, nothing is shown."""
        self.standing = RunState()
        self._watchers = watchers

    @classmethod
    def on(cls, console: Console, *, as_json: bool = False, log_format: str = "text", metrics_port: str | None = None) -> Self:
        """Show it live on a terminal, as a line of the log every ten seconds elsewhere.

        Args:
            console: Terminal or file that progress is written to.
            as_json: Write events to stdout instead.
            log_format: Format of the log; a live display would tear its JSON.
            metrics_port: Serve metrics there too, as PORT or HOST:PORT.
        """
        is_live = console.is_terminal and not console.is_dumb_terminal and not as_json and log_format == "text"
        watchers: list[Watcher] = [Display(console)] if is_live else []
        if metrics_port is not None:
            from sep_batch.jobs.progress.prometheus import Metrics

            watchers.insert(0, Metrics(metrics_port))
        if as_json:
            watchers.append(Events(sys.stdout))
        return cls(*watchers, Lines(progress=not (is_live or as_json)))

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Have the run watched until the block ends.

        Raises:
            NotRunnableError: A watcher cannot do what it is for.
        """
        with contextlib.ExitStack() as stack:
            for watcher in self._watchers:
                stack.enter_context(watcher.watching(self.standing))
            stack.enter_context(every(EVERY_S, self._tick, thread_name="progress"))
            yield

    def wait_for(self, what: str) -> None:
        """Say what the run waits for, until its first track is finished."""
        self.standing.waits_for = what

    def plan(self, summary: Summary, todo: pa.Table) -> None:
        """Say which tracks are to be done, and what will count them."""
        self.standing.plan(summary, todo.column("duration_s"))

    def start(self, settings_sha256: str) -> None:
        """Say that the flow starts."""
        self.standing.start(settings_sha256)
        for watcher in self._watchers:
            watcher.started(self.standing)

    def take(self, row: Mapping[str, Any]) -> None:
        """Take one finished row, once the summary has counted it."""
        if row["error_class"] != errors.BadRow.error_class:  # which the time left does not count
            self.standing.take(row["duration_s"])
        if row["status"] != "ok":
            for watcher in self._watchers:
                watcher.failed(self.standing, row)

    def stop(self, why: str) -> None:
        """Say that the run takes nothing in any more."""
        self.standing.stopping = why
        for watcher in self._watchers:
            watcher.stopping(self.standing, why)

    def end(self, summary: Summary) -> None:
        """Say what the run did."""
        for watcher in self._watchers:
            watcher.ended(summary)

    def _tick(self) -> None:
        for watcher in self._watchers:
            watcher.ticked(self.standing)
