"""`status --history`: the runs of an OUT, newest first, from the records that they left when they ended.

A run that was killed left none; its name is in the journal, if tracks of it had finished, and in the lease. So are the names of
runs of older versions, and of repairs. Nothing but the records is read: the journal is only listed.

from sep_batch.jobs.status import run_history
history = run_history("s3://bucket/stems")
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from sep_batch.jobs.setup.outs import refuse_no_out
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import journal, layout, lease
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing
from sep_batch.pipeline.storage.threads import in_threads

SHOWN = 20  # runs, without --limit
_RECORD = re.compile(r"(\d{1,18}-(?:[0-9a-f]{1,16}|none-\d{8}-\d{1,3}))[.]json")
_UNKNOWN = datetime.min.replace(tzinfo=UTC)


class Record(BaseModel):
    """Fields of a record that the table shows. Anybody may have changed the file; later versions may add fields."""

    model_config = ConfigDict(strict=True, extra="allow")

    run: str | None
    started: AwareDatetime
    ended: AwareDatetime
    exit_code: int
    error: str | None
    stopped: str | None
    ok: int
    failed: dict[str, int]
    left: int | None
    audio_s: float
    seconds: float
    job_s: float
    forecast_s: float | None
    engine: str
    device: str


@dataclass(frozen=True)
class Run:
    """One run of an OUT.

    Attributes:
        name: Name of its record; that of the run, if it had work to do.
        state: "ended": it has a record; "unreadable": its record cannot be read; "running", "silent" or "gone" by the lease, as
            in `Status.state`; "unknown": it has rows in the journal, and nothing else.
        last: Time of the last sign of life, in ISO 8601; None if storage has no times.
        record: Content of the record, as `jobs/run/record.py` writes it; None without one.
        problem: Reason why the record cannot be read.
    """

    name: str
    state: str
    last: str | None
    record: dict[str, Any] | None = None
    problem: str | None = None


@dataclass(frozen=True)
class History:
    """Runs of an OUT.

    Attributes:
        out: OUT.
        count: Number of the runs that are known.
        runs: Runs, the newest first, up to the limit.
    """

    out: str
    count: int = 0
    runs: list[Run] = field(default_factory=list)


def run_history(out: str, *, limit: int | None = None) -> History:
    """Return the runs of an OUT, the newest first. Nothing is written, and no run is disturbed.

    Args:
        out: OUT, a path or URI.
        limit: Number of runs to return; None is all.

    Raises:
        NotRunnableError: No run wrote to this place, or its storage cannot be read.
    """
    try:
        out = uris.target(out)
        refuse_no_out(out)
        return _history(out, limit)
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"OUT {error}") from error


@listing
def _history(out: str, limit: int | None) -> History:
    runs = {run.name: run for run in (*_from_journal(out), *_from_lease(out), *_from_records(out))}  # the last one counts
    newest = sorted(runs.values(), key=_age, reverse=True)[:limit]
    return History(out, len(runs), sorted(in_threads(partial(_read, out), newest), key=_age, reverse=True))


def _from_journal(out: str) -> Iterator[Run]:
    for name, modified in journal.runs(out).items():
        yield Run(name, "unknown", _iso(modified))


def _from_lease(out: str) -> Iterator[Run]:
    """Yield the run that holds the lease, or died with it."""
    newest = lease.newest(out)
    if newest and newest.state != "ended" and (name := newest.says.get("run")):
        yield Run(name, newest.state, _iso(newest.modified))


def _from_records(out: str) -> Iterator[Run]:
    for info in storage.find(layout.runs_folder(out)):
        if match := _RECORD.fullmatch(uris.name(info.uri)):
            yield Run(match[1], "ended", _iso(info.modified))


def _age(run: Run) -> tuple[int, datetime]:
    """Return a key that later runs have a larger one of. Numbers come first: the times are those of a copy if OUT is one."""
    return int(run.name.partition("-")[0]), datetime.fromisoformat(run.last) if run.last else _UNKNOWN


def _read(out: str, run: Run) -> Run:
    """Return a run with its record."""
    if run.state != "ended":
        return run
    try:
        content = storage.read(f"{layout.runs_folder(out)}/{run.name}.json")
        record = Record.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
        return replace(run, state="unreadable", problem=uris.printable(problem))
    return replace(run, last=_iso(record.ended), record=record.model_dump(mode="json"))


def _iso(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat(timespec="seconds") if time else None
