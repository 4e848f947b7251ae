"""Summary of a run as text, with the next command."""

from __future__ import annotations

import logging
import shlex

import typer

from sep_batch.jobs.failures.advice import RETRY_HINT
from sep_batch.jobs.progress import forecast
from sep_batch.jobs.progress.bottleneck import LEAST_AUDIO_S
from sep_batch.jobs.progress.summary import STEMS_SHOWN_OF, Summary
from sep_batch.jobs.setup.units import audio_length, data_size, tracks
from sep_batch.pipeline.errors import WorkerCrash
from sep_batch.pipeline.storage.uris import shown

SHOWN = 5


def show(summary: Summary, *, as_json: bool, reach: str = "") -> None:
    """Log a run's warnings and print its summary.

    Args:
        summary: Summary of the run.
        as_json: Print no summary: the last JSON event was it.
        reach: Flags that a command needs to reach OUT, as `reach` returns them.
    """
    for warning in summary.warnings:
        logging.getLogger("sep_batch").warning("warning: %s", warning)
    if not as_json:
        for line in lines(summary, reach):
            typer.echo(line)


def lines(summary: Summary, reach: str = "") -> list[str]:
    """Return the lines of the summary and the next command."""
    before = f"{summary.done_before} done before" + (f", {summary.known_failed} failed before" if summary.known_failed else "")
    before += f", {summary.withdrawn} withdrawn" if summary.withdrawn else ""
    if summary.run is None:
        lines = [f"nothing to do: {tracks(summary.tracks)}, {before}", *_known_failed(summary), *_vanished(summary)]
        return [*lines, _next("failures", summary, reach)] if summary.known_failed else lines
    speed = summary.audio_s / summary.seconds if summary.seconds else 0.0
    counts = f"{tracks(summary.ok)} separated, {summary.failed.total()} failed, {before}"
    lines = [f"{counts}; {audio_length(summary.audio_s)} of audio in {summary.seconds:.1f} s = {speed:.1f} x real time"]
    if summary.forecast_s and not summary.stopped:
        lines.append(forecast.beside(summary.forecast_s, summary.job_s))
    if summary.bottleneck and summary.audio_s >= LEAST_AUDIO_S:
        lines.append(summary.bottleneck)
    lines += _spilled(summary)
    lines += _flagged(summary)
    if summary.failed:
        lines.append("failed: " + ", ".join(f"{count} {name}" for name, count in summary.failed.most_common()))
    if WorkerCrash.error_class in summary.failed and summary.ray_logs:
        lines.append(f"Ray's logs: {summary.ray_logs}")
    lines += [*_known_failed(summary), *_vanished(summary), f"stems and index: {summary.out}"]
    if summary.ok <= STEMS_SHOWN_OF:
        lines += [f"  {shown(f'{summary.out}/{stem}')}" for stem in summary.stems]
    if summary.failed:
        lines.append(_next("failures", summary, reach))
    elif not summary.stopped:
        lines.append(_next("verify", summary, reach))
    return [*lines, summary.stopped] if summary.stopped else lines


def _flagged(summary: Summary) -> list[str]:
    """Return a line for each kind of flag on tracks that are ok."""
    flags = {
        "are damaged: truncated or with skipped packets": summary.ok_damaged,
        "lack tags or the cover: see tags_warning in the index": summary.ok_lacking_tags,
    }
    return [f"{count} of the separated tracks {text}" for text, count in flags.items() if count]


def _known_failed(summary: Summary) -> list[str]:
    """Return how to retry the tracks that failed in earlier runs and were not tried in this one."""
    return [RETRY_HINT] if summary.known_failed else []


def _spilled(summary: Summary) -> list[str]:
    if not summary.spilled_bytes:
        return []
    spilled = f"Ray spilled {data_size(summary.spilled_bytes)} of parts to its disk, which is slow"
    return [f"{spilled}: give it a larger /dev/shm, or use fewer --cpus"]


def _vanished(summary: Summary) -> list[str]:
    """Return a line about tracks whose source is gone."""
    if not (gone := summary.vanished):
        return []
    first = ", ".join(gone[:SHOWN]) + (", ..." if len(gone) > SHOWN else "")
    return [f"{tracks(len(gone))} of OUT no longer in the listing of the folder; their stems stay: {first}"]


def reach(endpoint_url: str | None, storage_options: str | None) -> str:
    """Return the flags with which another command reaches the storage of this run, each after a space."""
    flags = (("--endpoint-url", endpoint_url), ("--storage-options", storage_options))
    return "".join(f" {flag} {shlex.quote(value)}" for flag, value in flags if value)


def _next(command: str, summary: Summary, reach: str) -> str:
    return f"next: sep-batch {command} {shlex.quote(summary.out)}{reach}"
