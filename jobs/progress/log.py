"""`--log-format`: what is logged, on stderr, as text or as lines of JSON that name run and track."""

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
    """Writes records to what stderr is at that moment: a live display puts itself in its place.

    Attributes:
        as_json: Whether as JSON.
        standing: State of the run that lines are about; None before there is one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.as_json = False
        self.standing: RunState | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record as one line; of text, a defect's traceback may be more."""
        try:
            print(self.json(record) if self.as_json else self.text(record), file=sys.stderr, flush=True)  # noqa: T201
        except Exception:  # noqa: BLE001 (logging's own rule: what is logged never ends what logs it)
            self.handleError(record)

    def text(self, record: logging.LogRecord) -> str:
        """Return a record for a person."""
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
        """Write text or JSON from now on; as JSON also what Python itself would warn of.

        Raises:
            UsageError: It is neither.
        """
        if format not in FORMATS:
            raise errors.UsageError(f"--log-format {format}: expected {' or '.join(FORMATS)}")
        self.as_json = format == "json"
        logging.captureWarnings(self.as_json)


@contextlib.contextmanager
def shown() -> Iterator[Handler]:
    """Show what is logged until the block ends: sep-batch's own from info on, of others what they warn of."""
    handler, ours = Handler(), logging.getLogger("sep_batch")
    logging.getLogger().addHandler(handler)
    before = ours.level
    ours.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        ours.setLevel(before)
        logging.getLogger().removeHandler(handler)
        logging.captureWarnings(False)  # noqa: FBT003 (logging's own signature)
