"""The report of `status`, in words and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sep_batch.jobs.progress.print_result import tell
from sep_batch.pipeline.out import lease

RATE_S = 300.0  # of a run, the last, that its rate is taken over


@dataclass
class Status:
    """What is known of an OUT.

    Attributes:
        out: OUT.
        state: running; silent: neither ended nor heard of for long; ended; gone: its process died on this machine; none: there
            was never one.
        run: The run that works on OUT; where none does, the last that wrote to its journal.
        host, pid: Where the lease's holder is, or was.
        since: When it took the lease.
        heartbeat_s: Seconds since its last sign of life, or its end; by the storage's clock and this one's.
        done: Tracks that are ok.
        audio_s: Theirs.
        ok_damaged: Tracks among them that are truncated or with skipped packets.
        failed: Tracks by class.
        marked: Tracks whose stems `verify --repair` found broken; the next run separates them again.
        replaced: Tracks whose stems a run is to replace, or was; the run at work or the next one separates them again.
        suspect: Tracks of `done` that were decoded by older rules, which may have been wrong; `--retry suspect` does them again.
        tried, tried_failed: Tracks that ended in the run, and of these those that failed.
        began, last: When its first and its last track were done; by the workers' clocks.
        planned: Tracks that the run set out to do; where none works on OUT, those of the manifest, up to the limit.
        listed: Tracks of the manifest of the last run.
        limit: The last run's `--limit`: it took only the first tracks of its manifest.
        pending: Tracks among these that are left to do; None where that is not known.
        unknown: Why it is not known.
        tracks_a_minute: Speed of the running run, over its last `RATE_S` seconds.
        audio_s_a_minute: The same of audio that was separated.
        eta_s: Seconds until nothing is pending, at that rate.
        model, format, version, manifest: Inputs of the last run: a model's name, sep-batch's version, a URI.
        settings: OUT's settings, as its last run wrote them; what has its default may be left out.
        flags: Flags of `run` that give it these settings; none where all are the defaults.
    """

    out: str
    state: str = "none"
    run: str | None = None
    host: str | None = None
    pid: int | None = None
    since: str | None = None
    heartbeat_s: float | None = None
    done: int = 0
    audio_s: float = 0.0
    ok_damaged: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    marked: int = 0
    replaced: int = 0
    suspect: int = 0
    tried: int = 0
    tried_failed: int = 0
    began: str | None = None
    last: str | None = None
    planned: int | None = None
    listed: int | None = None
    limit: int | None = None
    pending: int | None = None
    unknown: str | None = None
    tracks_a_minute: float | None = None
    audio_s_a_minute: float | None = None
    eta_s: float | None = None
    model: str | None = None
    format: str | None = None
    version: str | None = None
    manifest: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)

    @property
    def is_at_work(self) -> bool:
        """Tell whether a run works on OUT, or perhaps does."""
        return self.state in ("running", "silent")


def show(status: Status, *, as_json: bool) -> None:
    """Print a status: one line of JSON, or words for a person."""
    tell(status, lines(status, datetime.now(UTC)), as_json=as_json)


def lines(status: Status, now: datetime) -> Iterator[str]:
    """Yield the status in words."""
    yield f"{status.out}: {_state(status, now)}"
    damaged = f"; {status.ok_damaged:,} of them damaged: truncated or with skipped packets" if status.ok_damaged else ""
    yield _line("done", f"{status.done:,} tracks, {status.audio_s / 3600:,.1f} h of audio{damaged}")
    classes = ", ".join(f"{count:,} {name}" for name, count in status.failed.items())
    yield _line(
        "failed", f"{sum(status.failed.values()):,}" + (f": {classes}; sep-batch failures {status.out}" if classes else "")
    )
    if status.marked:
        yield _line("marked", f"{status.marked:,} by verify --repair; the next run separates them again")
    if status.replaced:
        yield _line("replaced", f"{status.replaced:,} have no stems now: a run that is to replace them has not got to them yet")
    if status.suspect:
        yield _line("suspect", f"{status.suspect:,} done by older decoding rules, perhaps wrong; done again by --retry suspect")
    yield _line("pending", _pending(status))
    if status.tracks_a_minute and status.audio_s_a_minute is not None:
        speed = status.audio_s_a_minute / 60
        yield _line(
            "rate", f"{status.tracks_a_minute:,.1f} tracks a minute, {speed:,.1f} x real time, over the last {_span(RATE_S)}"
        )
    if status.eta_s is not None:
        end = now + timedelta(seconds=status.eta_s)
        yield _line("ETA", f"{_span(status.eta_s)}, at {end:%Y-%m-%d %H:%M} UTC")
    if status.run and status.began and status.last:
        counts = f"{status.tried:,} tracks tried, {status.tried_failed:,} failed"
        times = f"the first done {_at(status.began)}, the last {_at(status.last)} ({_span(_age_s(status.last, now))} ago)"
        yield _line("run", f"{status.run}: {counts}; {times}")
    if status.manifest:
        yield _line("settings", f"{shlex.join(status.flags)}; all others are the defaults" if status.flags else "the defaults")
        yield _line("made of", f"{status.manifest} with {status.model} as {status.format}, sep-batch {status.version}")


def _line(name: str, text: str) -> str:
    return f"{name:9}{text}"


def _state(status: Status, now: datetime) -> str:
    """Say whether a run is at work, and how that is known."""
    where = f"{status.host}, pid {status.pid}"
    since = f"since {status.since}"
    if status.since:
        since = f"since {_at(status.since)} ({_span(_age_s(status.since, now))})"
    heard = _heard(status.heartbeat_s or 0.0)
    run = f"run {status.run}" if status.run else "a run that has no name yet"
    if status.state == "running":
        return f"running {since}: {run} on {where}; {heard}"
    if status.state == "silent":
        return (
            f"perhaps running, {since}: {run} on {where}; {heard}. If it lives, its storage is behind; if not, "
            f"the next run takes over once it has seen no sign of life for {lease.DEAD_S:g} s"
        )
    if status.state == "gone":
        return f"not running: {where} is gone without an end ({heard}); the same command again resumes"
    ended = f", the last ended {_span(status.heartbeat_s or 0.0)} ago" if status.state == "ended" else ""
    return f"not running{ended}"


def _heard(seconds: float) -> str:
    if seconds < -1:
        return f"heartbeat by a storage whose clock is {_span(-seconds)} ahead of this one"
    return f"heartbeat {_span(seconds)} ago"


def _pending(status: Status) -> str:
    if status.pending is None:
        return f"not known: {status.unknown}"
    limit = ""
    if status.limit is not None and status.listed is not None and status.limit < status.listed:
        limit = f"; --limit {status.limit} leaves out {status.listed - status.limit:,} of the manifest's {status.listed:,} tracks"
    if status.is_at_work:
        return f"{status.pending:,} of the {status.planned:,} tracks that this run set out to do{limit}"
    which = "first " if limit else ""
    return f"{status.pending:,} of the manifest's {which}{status.planned:,} tracks, for the next run{limit}"


def _at(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _age_s(time: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(time)).total_seconds()


def _span(seconds: float) -> str:
    """Return a time in words: 8 s, 26 min, 3 h 5 min, 2 d 4 h."""
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
