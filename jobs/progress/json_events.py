"""`--json`: the events of a run as lines of JSON, for schedulers; docs/reference/events.md has their table."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from sep_batch.jobs.progress.display import Watcher
from sep_batch.jobs.progress.run_state import RunState
from sep_batch.jobs.progress.summary import Summary


class Events(Watcher):
    """Writes each event as one line."""

    def __init__(self, file: TextIO) -> None:
        """Take the file that events are written to."""
        self._file: TextIO | None = file
        self._lock = threading.Lock()  # ticks come from a thread of their own

    def started(self, standing: RunState) -> None:
        """Write the tracks to do, the settings, the actors and the device."""
        summary = standing.summary
        self._write(
            "start",
            summary.run,
            out=summary.out,
            tracks=standing.todo,
            settings_sha256=standing.settings_sha256,
            actors=summary.actors,
            device=summary.device,
        )

    def ticked(self, standing: RunState) -> None:
        """Write the counts, the speed and the time left."""
        summary = standing.summary
        self._write(
            "progress",
            summary.run,
            tracks=standing.todo,
            done=summary.tried,
            failed=summary.failed.total(),
            audio_s=summary.audio_s,
            x_real_time=standing.x_real_time,
            eta_s=standing.eta_s,
            busy=standing.busy,
            doing=standing.doing,
        )

    def failed(self, standing: RunState, row: Mapping[str, Any]) -> None:
        """Write one failed track and its error."""
        kind = {"class": row["error_class"], "stage": row["error_stage"], "transient": row["transient"]}
        self._write("failed", standing.summary.run, id=row["id"], uri=row["uri"], **kind, message=row["error"])

    def stopping(self, standing: RunState, why: str) -> None:
        """Write the reason of an early end."""
        self._write("stopping", standing.summary.run, why=why)

    def ended(self, summary: Summary) -> None:
        """Write the summary."""
        fields = summary.as_dict()
        self._write("summary", fields.pop("run"), **fields)

    def _write(self, event: str, run: str | None, **fields: Any) -> None:
        """Write one line; after a failed write the run goes on without events."""
        line = json.dumps({"event": event, "time": datetime.now(UTC).isoformat(), "run": run} | fields)
        with self._lock:
            if self._file is None:
                return
            try:
                self._file.write(f"{line}\n")
                self._file.flush()
            except OSError as error:
                self._file = None
                logging.getLogger("sep_batch").warning("--json: no more events, stdout cannot be written to: %s", error.strerror)
