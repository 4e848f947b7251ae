"""Report of `status`, as text and JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sep_batch.jobs.progress.print_result import tell
from sep_batch.jobs.setup.units import audio_length, span, tracks
from sep_batch.pipeline.out import lease

RATE_S = 300.0  # the rate is measured over so many seconds before the newest row


@dataclass
class Status:
    """State of an OUT. Tracks are counted, not listed.

    Attributes:
        out: OUT.
        state: State of the newest run: running; silent: not ended, and no heartbeat for `lease.DEAD_S`; ended; gone: its process
            died on this machine; none: no run has held the lease.
        run: The run that works on OUT; without one, the last run in the journal.
        host, pid: Host and process of the newest lease's holder.
        since: Time at which it took the lease.
        heartbeat_s: Seconds since its last heartbeat, or its end; from the storage's clock to this machine's.
        done: Tracks with status ok.
        audio_s: Seconds of audio of these tracks.
        ok_damaged: Tracks of `done` that are truncated or with skipped packets.
        failed: Failed tracks by class.
        marked: Tracks whose stems `verify --repair` found broken; the next run separates them again.
        replaced: Tracks whose stems are revoked and not yet replaced; the run at work or the next one separates them.
        withdrawn: Tracks that were withdrawn.
        suspect: Tracks of `done` that were decoded by older rules, which may have been wrong; `--retry suspect` redoes them.
        tried, tried_failed: Tracks that finished in this run, ok or failed, and the failed ones among them.
        began, last: Times at which the run's first and last tracks finished, by the workers' clocks.
        planned: Tracks in the plan of the run at work; without one, tracks of the manifest, up to the limit.
        listed: Tracks in the manifest of the last run.
        limit: `--limit` of the last run, which takes only the first tracks of the manifest.
        sample: `--sample` of the last run, which takes only some tracks of the manifest.
        pending: Tracks of `planned` that are left to do; None if unknown.
        unknown: Reason why `pending` is unknown.
        tracks_a_minute: Speed of the run at work, over `RATE_S` seconds.
        audio_s_a_minute: Seconds of audio separated a minute, over the same time.
        eta_s: Seconds until nothing is pending, at this speed.
        model, format, version, manifest: Model name, file format, sep-batch version and manifest URI of the last run.
        settings: OUT's settings, as the last run recorded them; defaults may be missing.
        flags: Flags of `run` that give these settings; none if all are the defaults.
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
    withdrawn: int = 0
    suspect: int = 0
    tried: int = 0
    tried_failed: int = 0
    began: str | None = None
    last: str | None = None
    planned: int | None = None
    listed: int | None = None
    limit: int | None = None
    sample: int | None = None
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
        """Return True if a run works on OUT, or may do so."""
        return self.state in ("running", "silent")


def show(status: Status, *, as_json: bool) -> None:
    """Print a status as one line of JSON, or as text."""
    tell(status, lines(status, datetime.now(UTC)), as_json=as_json)


def lines(status: Status, now: datetime) -> Iterator[str]:
    """Yield the lines of the status."""
    yield f"{status.out}: {_state(status, now)}"
    damaged = f"; {status.ok_damaged:,} of them damaged: truncated or with skipped packets" if status.ok_damaged else ""
    yield _line("done", f"{tracks(status.done)}, {audio_length(status.audio_s)} of audio{damaged}")
    classes = ", ".join(f"{count:,} {name}" for name, count in status.failed.items())
    yield _line(
        "failed", f"{sum(status.failed.values()):,}" + (f": {classes}; sep-batch failures {status.out}" if classes else "")
    )
    if status.marked:
        yield _line("marked", f"{status.marked:,} have broken stems (verify --repair); the next run separates them again")
    if status.replaced:
        yield _line("replaced", f"{status.replaced:,} have their old stems revoked and no new ones yet; a run separates them")
    if status.withdrawn:
        yield _line("removed", f"{status.withdrawn:,} withdrawn; no run separates them, unless its --restore names them")
    if status.suspect:
        yield _line("suspect", f"{status.suspect:,} done, decoded by older rules, perhaps wrong; --retry suspect redoes them")
    yield _line("pending", _pending(status))
    if status.tracks_a_minute and status.audio_s_a_minute is not None:
        speed = status.audio_s_a_minute / 60
        yield _line(
            "rate", f"{status.tracks_a_minute:,.1f} tracks a minute, {speed:,.1f} x real time, over the last {span(RATE_S)}"
        )
    if status.eta_s is not None:
        end = now + timedelta(seconds=status.eta_s)
        yield _line("ETA", f"{span(status.eta_s)}, at {end:%Y-%m-%d %H:%M} UTC")
    if status.run and status.began and status.last:
        counts = f"{tracks(status.tried)} tried, {status.tried_failed:,} failed"
        times = f"the first done {_at(status.began)}, the last {_at(status.last)} ({span(_age_s(status.last, now))} ago)"
        yield _line("run", f"{status.run}: {counts}; {times}")
    if status.manifest:
        yield _line("settings", f"{shlex.join(status.flags)}; all others are the defaults" if status.flags else "the defaults")
        yield _line("source", f"{status.manifest} with {status.model} as {status.format}, sep-batch {status.version}")


def _line(name: str, text: str) -> str:
    return f"{name:9}{text}"


def _state(status: Status, now: datetime) -> str:
    """Return the state of the run and its last heartbeat."""
    process = f"{status.host}, pid {status.pid}"
    since = f"since {status.since}"
    if status.since:
        since = f"since {_at(status.since)} ({span(_age_s(status.since, now))})"
    heartbeat = _heartbeat(status.heartbeat_s or 0.0)
    run = f"run {status.run}" if status.run else "a run that has no name yet"
    if status.state == "running":
        return f"running {since}: {run} on {process}; {heartbeat}"
    if status.state == "silent":
        return (
            f"perhaps running {since}: {run} on {process}; {heartbeat}, expected every {lease.BEAT_S:g} s. Its process died, or "
            f"does not reach storage; the next run takes over after it has waited {lease.DEAD_S:g} s for a heartbeat"
        )
    if status.state == "gone":
        return f"not running: the run on {process} died ({heartbeat}); run the same command again to resume"
    ended = f", the last ended {span(status.heartbeat_s or 0.0)} ago" if status.state == "ended" else ""
    return f"not running{ended}"


def _heartbeat(seconds: float) -> str:
    if seconds < -1:
        return f"heartbeat {span(-seconds)} in the future: the clocks of storage and this machine differ"
    return f"heartbeat {span(seconds)} ago"


def _pending(status: Status) -> str:
    if status.pending is None:
        return f"unknown: {status.unknown}"
    rest, which = "", ""
    flag, kept = ("--sample", status.sample) if status.sample is not None else ("--limit", status.limit)
    if kept is not None and status.listed is not None and kept < status.listed:
        rest = f"; {flag} {kept} leaves out {status.listed - kept:,} of the manifest's {status.listed:,} tracks"
        which = "sampled " if status.sample is not None else "first "
    if status.is_at_work:
        return f"{status.pending:,} of the {status.planned:,} tracks of this run{rest}"
    return f"{status.pending:,} of the manifest's {which}{status.planned:,} tracks, for the next run{rest}"


def _at(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _age_s(time: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(time)).total_seconds()
