"""`--log-format`: the log on stderr, as text or as lines of JSON that name run and track."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from sep_batch.jobs.progress.run_state import RunState
from sep_batch.pipeline import errors

FORMATS = ("text", "json")


class Handler(logging.Handler):
    """Writes records to `sys.stderr` as it is at that moment, because a live display replaces it.

    Attributes:
        as_json: Write JSON instead of text.
        standing: State of the run; None before there is one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.as_json = False
        self.standing: RunState | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line; as text, a traceback takes several."""
        try:
            print(self.json(record) if self.as_json else self.text(record), file=sys.stderr, flush=True)  # noqa: T201
        except Exception:  # noqa: BLE001 (logging's own rule: a failed log call never ends its caller)
            self.handleError(record)

    def text(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        return f"error: {self.format(record)}" if record.levelno >= logging.ERROR else self.format(record)

    def json(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "run": self.standing.summary.run if self.standing else None,
            "track": getattr(record, "track", None),
            "message": self.format(record),
        }
        return json.dumps(fields)

    def speak(self, format: str) -> None:
        """Write text or JSON from now on; with JSON, Python's own warnings are logged too.

        Raises:
            UsageError: The format is neither.
        """
        if format not in FORMATS:
            raise errors.UsageError(f"--log-format {format}: expected {' or '.join(FORMATS)}")
        self.as_json = format == "json"
        logging.captureWarnings(self.as_json)


@contextlib.contextmanager
def shown() -> Iterator[Handler]:
    """Show the log until the block ends: sep-batch's records from INFO on, those of libraries from WARNING on."""
    handler, logger = Handler(), logging.getLogger("sep_batch")
    logging.getLogger().addHandler(handler)
    level_before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.setLevel(level_before)
        logging.getLogger().removeHandler(handler)
        logging.captureWarnings(False)  # noqa: FBT003 (logging's own signature)
