"""Plan as text and JSON, with the next command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from sep_batch.jobs.failures.advice import RETRY_HINT
from sep_batch.jobs.plan.amounts import Amounts
from sep_batch.jobs.plan.plan import Planned
from sep_batch.jobs.progress.forecast import Forecast
from sep_batch.jobs.setup import setting_flags
from sep_batch.jobs.setup.units import audio_length, clock, data_size, tracks
from sep_batch.pipeline.out.plan import Reason
from sep_batch.pipeline.storage.uris import printable, shown

WORDS: dict[Reason, str] = {
    "new": "to do: new",
    "source_changed": "to do: its source changed",
    "settings_differ": "to do: made with other settings",
    "failed_before": "to do: failed before",
    "deleted": "to do: its stems were broken",
    "replaced": "to do: stems revoked by a run that did not replace them",
    "suspect": "to do: decoded by older rules, perhaps wrong",
    "restored": "to do: withdrawn, and named by --restore",
    "bad_row": "bad row of the manifest, fails without being tried",
    "done": "done",
    "done_suspect": "done, decoded by older rules, perhaps wrong; --retry suspect redoes it",
    "known_failed": "failed before, not tried again",
    "withdrawn": "withdrawn; --restore FILE brings those back that it names",
}
ENGINES = {"local": "local, in this process", "ray": "ray"}


def show(planned: Planned, command: str, *, as_json: bool) -> None:
    """Print a plan as one line of JSON, or as a table and text.

    Args:
        planned: The plan.
        command: Command line of the run that the plan is for.
        as_json: Print JSON.
    """
    for warning in planned.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if as_json:
        typer.echo(to_json(planned))
    else:
        _show(planned, command)
    if planned.refused:
        typer.echo(f"error: {printable(planned.refused, 4000)}", err=True)


def to_json(planned: Planned) -> str:
    """Return a plan as one line of JSON."""
    fields = asdict(planned)
    if planned.forecast:
        fields["forecast"] |= {"seconds": planned.forecast.seconds, "machine_hours": planned.forecast.machine_hours}
    return json.dumps(fields)


def _show(planned: Planned, command: str) -> None:
    console = Console(highlight=False, markup=False)
    console.print(
        f"{shown(planned.manifest)}: {tracks(planned.tracks)}, {planned.todo} to do in {shown(planned.out)}", soft_wrap=True
    )
    if planned.reasons:
        console.print(_table(planned))
    for line in lines(planned, command):
        console.print(line, soft_wrap=True)


def _table(planned: Planned) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tracks", justify="right")
    table.add_column("reason", no_wrap=True)
    table.add_column("example", overflow="fold")
    for reason, words in WORDS.items():
        if reason in planned.reasons:
            table.add_row(f"{planned.reasons[reason]:,}", words, planned.examples[reason])
    return table


def lines(planned: Planned, command: str) -> Iterator[str]:
    """Yield the lines below the table."""
    for difference in setting_flags.differences(planned.differing):
        yield f"setting {difference}"
    if planned.reasons.get("known_failed"):
        yield RETRY_HINT
    if planned.amounts is None:
        yield "nothing to separate" if planned.reasons.get("bad_row") else "nothing to do"
        if not planned.reasons.get("bad_row"):
            return
    else:
        yield from _amounts(planned.amounts)
    if planned.engine:
        yield f"engine: {ENGINES[planned.engine.name]} ({planned.engine.reason})"
    if planned.forecast:
        yield _forecast(planned.forecast)
    if not planned.refused:
        yield f"next: {command}"


def _amounts(amounts: Amounts) -> Iterator[str]:
    line = f"audio: {audio_length(amounts.audio_s)}"
    line += f", {audio_length(amounts.estimated_s)} of it estimated" if amounts.estimated_s else ""
    yield line + (f"; the durations of {amounts.unknown:,} tracks are unknown" if amounts.unknown else "")
    yield f"output: {data_size(amounts.output_bytes)}, {amounts.output}"
    form = "wave" if amounts.stft == "gpu" else "spectrum"
    yield (
        f"memory: the largest part is {data_size(amounts.part_bytes)} of {form} on its way to the U-Nets, "
        f"and {data_size(amounts.stems_bytes)} of stems after them"
    )


def _forecast(forecast: Forecast) -> str:
    return (
        f"forecast: {clock(forecast.seconds)} on this machine, {forecast.machine_hours:.2f} machine-hours "
        f"(start {forecast.start_s:.0f} s, then {forecast.x_real_time:.1f} x real time)"
    )
