"""The progress of a run: keeps its state, and passes each event on to its watchers: display, log, JSON events, metrics.

The driver and jobs/run/run.py report what happens. Watchers get each event at once, and the state of the run every ten seconds.
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
    """State of a run, and the watchers that receive its events."""

    def __init__(self, *watchers: Watcher) -> None:
        """Take the watchers; without any, nothing is shown."""
        self.standing = RunState()
        self._watchers = watchers

    @classmethod
    def on(
        cls,
        console: Console,
        *,
        as_json: bool = False,
        log_format: str = "text",
        metrics_port: str | None = None,
        metrics_file: str | None = None,
    ) -> Self:
        """Return progress that is a live display on a terminal, and a log line every ten seconds elsewhere.

        Args:
            console: Terminal or file that progress is written to.
            as_json: Write events to stdout instead.
            log_format: Format of the log; with JSON there is no live display, which would tear its lines.
            metrics_port: PORT or HOST:PORT on which to serve metrics; None serves none.
            metrics_file: File to write metrics to, whose name ends in .prom; None writes none.

        Raises:
            UsageError: The port or the name of the file is invalid.
            NotRunnableError: The file's folder cannot be written to.
        """
        is_live = console.is_terminal and not console.is_dumb_terminal and not as_json and log_format == "text"
        watchers: list[Watcher] = [Display(console)] if is_live else []
        if metrics_port is not None:
            from sep_batch.jobs.progress.prometheus import Metrics

            watchers.insert(0, Metrics(metrics_port))
        if metrics_file is not None:
            from sep_batch.jobs.progress.prometheus import MetricsFile

            watchers.insert(0, MetricsFile(metrics_file))
        if as_json:
            watchers.append(Events(sys.stdout))
        return cls(*watchers, Lines(progress=not (is_live or as_json)))

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Run the watchers until the block ends.

        Raises:
            NotRunnableError: A watcher cannot start.
        """
        with contextlib.ExitStack() as stack:
            for watcher in self._watchers:
                stack.enter_context(watcher.watching(self.standing))
            stack.enter_context(every(EVERY_S, self._tick, thread_name="progress"))
            try:
                yield
            except BaseException as error:
                self.standing.end(errors.exit_code_of(error))
                raise
            self.standing.end(self.standing.summary.exit_code)

    def begin(self, summary: Summary) -> None:
        """Record the summary, as soon as OUT is known."""
        self.standing.summary = summary

    def wait_for(self, step: str) -> None:
        """Record the step that the run waits for until its first track is finished."""
        self.standing.wait_for(step)

    def plan(self, summary: Summary, todo: pa.Table) -> None:
        """Record the tracks to do, and the summary that counts them."""
        self.standing.plan(summary, todo.column("duration_s"))

    def start(self, settings_sha256: str) -> None:
        """Record the start of the flow."""
        self.standing.start(settings_sha256)
        for watcher in self._watchers:
            watcher.started(self.standing)

    def take(self, row: Mapping[str, Any]) -> None:
        """Take one finished row, once the summary has counted it."""
        if row["error_class"] != errors.BadRow.error_class:  # bad rows do not count towards the time left
            self.standing.take(row["duration_s"])
        if row["status"] != "ok":
            for watcher in self._watchers:
                watcher.failed(self.standing, row)

    def stop(self, why: str) -> None:
        """Record that the run starts no further tracks, and why."""
        self.standing.stopping = why
        for watcher in self._watchers:
            watcher.stopping(self.standing, why)

    def end(self, summary: Summary) -> None:
        """Pass the result of the run on to the watchers."""
        for watcher in self._watchers:
            watcher.ended(summary)

    def _tick(self) -> None:
        for watcher in self._watchers:
            watcher.ticked(self.standing)
