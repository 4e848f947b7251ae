"""Report of `status --history`, as text and JSON. For each run a row of numbers and its end in words, within 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime

from sep_batch.jobs.progress.print_result import tell
from sep_batch.jobs.setup.units import span
from sep_batch.jobs.status.history import History, Run
from sep_batch.pipeline import errors
from sep_batch.pipeline.storage.uris import printable

COLUMNS = 80
WHY_CHARS = 160  # of the reason why a run ended
_HEAD = ("when (UTC)", "run", "ok", "failed", "left", "audio h", "took", "speed")
_NAMES = 2  # columns of the head that are aligned to the left
_ENDS = {0: "ok", errors.SOME_FAILED: "some tracks failed"}  # all other exit codes have a reason
_STATES = {
    "running": "running",
    "silent": "perhaps running: no heartbeat",
    "gone": "killed: its process is gone",
    "unknown": "no record: it was killed, an older version's, or a repair (verify --repair)",
}


def show(history: History, *, as_json: bool) -> None:
    """Print a history as one line of JSON, or as text."""
    tell(history, lines(history), as_json=as_json)


def lines(history: History) -> Iterator[str]:
    """Yield the lines of the table, the newest run first."""
    if not history.runs:
        yield f"{history.out}: no run has left a record yet"
        return
    rows = [_HEAD, *map(_row, history.runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row, text in zip(rows, [None, *map(_end, history.runs)], strict=True):
        cells = (f"{cell:{'<' if number < _NAMES else '>'}{widths[number]}}" for number, cell in enumerate(row))
        yield " ".join(cells)
        if text:
            yield from textwrap.wrap(text, COLUMNS, initial_indent="  ", subsequent_indent="  ")
    if history.count > len(history.runs):
        yield f"and {history.count - len(history.runs):,} earlier runs; --limit {history.count} or --json shows all"


def _row(run: Run) -> tuple[str, ...]:
    """Return the cells of a run; the time is that of its begin, or of its last sign of life if it has no record."""
    record = run.record
    time = record["started"] if record else run.last
    when = f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M}" if time else "-"
    if not record:
        return when, run.name, *["-"] * (len(_HEAD) - _NAMES)
    counts = (record["ok"], sum(record["failed"].values()), "-" if record["left"] is None else record["left"])
    speed = f"{_number(record['audio_s'] / record['seconds'])} x" if record["seconds"] and record["audio_s"] else "-"
    return when, record["run"] or "-", *map(str, counts), _number(record["audio_s"] / 3600), span(record["job_s"]), speed


def _end(run: Run) -> str:
    """Return the end of a run in words, and its engine, device and forecast."""
    record = run.record
    if not record:
        return _STATES.get(run.state) or f"its record _sep/runs/{run.name}.json is not valid: {run.problem}"
    code, is_idle = record["exit_code"], record["exit_code"] == 0 and not record["run"]
    stopped = (record["stopped"] or "").partition(";")[0]  # behind it is what to do next
    why = record["error"] or stopped or ("nothing to do" if is_idle else _ENDS.get(code, "no reason recorded"))
    words = [f"exit {code}: {printable(why, WHY_CHARS)}"]
    if record["engine"]:
        words.append(f"{record['engine']} on {record['device']}" if record["device"] else record["engine"])
    if record["forecast_s"]:
        off = record["job_s"] / record["forecast_s"] - 1
        words.append(f"forecast {span(record['forecast_s'])}, took {100 * off:+.0f} %")
    return "; ".join(words)


def _number(value: float) -> str:
    if value < 1:
        return f"{round(value, 4):g}"
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"
