"""What a person is told at the end of a run."""

from __future__ import annotations

import typer

from sep_batch.jobs import forecast
from sep_batch.jobs.summary import Summary


def show(summary: Summary, *, as_json: bool) -> None:
    """Print a run's summary: one line of JSON on stdout, or a few words for a person."""
    for warning in summary.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        typer.echo(summary.to_json())
        return
    for line in lines(summary):
        typer.echo(line)


def lines(summary: Summary) -> list[str]:
    """Return the summary in words."""
    before = f"{summary.done_before} done before" + (f", {summary.known_failed} failed before" if summary.known_failed else "")
    if summary.run is None:
        return [f"nothing to do: {summary.tracks} tracks, {before}"]
    speed = summary.audio_s / summary.seconds if summary.seconds else 0.0
    counts = f"{summary.ok} tracks separated, {summary.failed.total()} failed, {before}"
    told = [f"{counts}; {summary.audio_s / 3600:.2f} h of audio in {summary.seconds:.1f} s = {speed:.1f} x real time"]
    if summary.forecast_s and not summary.stopped:
        told.append(forecast.beside(summary.forecast_s, summary.job_s))
    if summary.bottleneck:
        told.append(summary.bottleneck)
    if summary.failed:
        told.append("failed: " + ", ".join(f"{count} {name}" for name, count in summary.failed.most_common()))
    if summary.stopped:
        told.append(summary.stopped)
    return [*told, f"stems and index: {summary.out}"]
