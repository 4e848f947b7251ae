"""Result of `evaluate`, as text and JSON."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import typer
from rich.table import Table

from sep_batch.jobs.compare.report import printed
from sep_batch.jobs.setup.units import tracks

NAMES = {
    "sdr": "SDR",
    "si_sdr": "SI-SDR",
    **{f"bsseval_{name}": f"BSSEval {name.upper()}" for name in ("sdr", "isr", "sir", "sar")},
}


@dataclass
class Evaluation:
    """Result of an evaluation. Decibels are null in JSON where they are infinite.

    Attributes:
        out: OUT with the stems.
        metrics: `sdr` or `bsseval`.
        scored: Number of tracks with scores.
        failed: Number of failed tracks, by class.
        failures: First failed tracks: id, error_class, error.
        stems: Tracks, median, mean and lowest in dB, and the id of the lowest, by stem and metric.
        silent: Number of tracks whose reference is silent, so that there is no SDR, by stem.
        unreferenced: Number of tracks without a reference of a stem, by stem.
        unused: Names of references that no stem is scored against.
        below: Stems below --min-sdr, a line each.
        baseline: URI of the earlier evaluation, None without one.
        differences: Difference to it by stem: tracks, mean_db, and the interval of 95 % from low_db to high_db.
        output: URI of the Parquet file with every row.
        png: URI of the picture, None without one.
        warnings: Warnings of the separation, a line each.
        seconds: Seconds that scoring took.
        exit_code: Exit code of the command.
    """

    out: str
    metrics: str
    scored: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    stems: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)
    unreferenced: dict[str, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)
    baseline: str | None = None
    differences: dict[str, dict[str, Any]] = field(default_factory=dict)
    output: str | None = None
    png: str | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    exit_code: int = 0


def show(result: Evaluation, *, as_json: bool) -> None:
    """Log an evaluation's warnings, and print it as one line of JSON or as text."""
    for warning in result.warnings:
        logging.getLogger("sep_batch").warning("warning: %s", warning)
    for line in [json.dumps(_finite(asdict(result)))] if as_json else lines(result):
        typer.echo(line)


def lines(result: Evaluation) -> Iterator[str]:
    """Yield the lines of the result."""
    yield f"{result.out}: {tracks(result.scored)} scored, {sum(result.failed.values())} failed; {result.seconds:.1f} s"
    if result.stems:
        yield from printed(_table(result.stems))
    for stem, count in result.silent.items():
        yield f"{stem}: the reference of {tracks(count)} is silent, so there is no SDR"
    for stem, count in result.unreferenced.items():
        yield f"{stem}: no reference in {tracks(count)}"
    if result.unused:
        yield f"references that no stem is scored against: {', '.join(result.unused)}"
    yield from _differences(result)
    if result.failures:
        yield "failed: " + ", ".join(f"{count} {kind}" for kind, count in result.failed.items())
        yield from (f"  {row['id']}: {row['error_class']}: {row['error']}" for row in result.failures)
        if (more := sum(result.failed.values()) - len(result.failures)) > 0:
            yield f"  and {more} more; all are in the rows"
    yield from result.below
    yield f"all rows: {result.output}"
    if result.png:
        yield f"picture: {result.png}"


def _table(stems: dict[str, dict[str, dict[str, Any]]]) -> Table:
    table = Table("stem", "metric", box=None, pad_edge=False, header_style="bold")
    for name in ("tracks", "median", "mean", "lowest, dB"):
        table.add_column(name, justify="right")
    table.add_column("track", overflow="fold")
    for stem, metrics in stems.items():
        for metric, row in metrics.items():
            numbers = (f"{row[name]:.2f}" for name in ("median_db", "mean_db", "lowest_db"))
            table.add_row(stem, NAMES[metric], str(row["tracks"]), *numbers, row["lowest_id"])
    return table


def _differences(result: Evaluation) -> Iterator[str]:
    if not result.baseline:
        return
    yield f"SDR minus that of {result.baseline}, mean over the tracks in both (95 % bootstrap interval):"
    for stem, row in result.differences.items():
        if row["mean_db"] is None:
            yield f"  {stem}: no track in both"
        else:
            interval = "" if row["low_db"] is None else f" ({row['low_db']:+.2f} to {row['high_db']:+.2f})"
            yield f"  {stem}: {row['mean_db']:+.2f} dB{interval}, {tracks(row['tracks'])}"


def _finite(value: Any) -> Any:
    """Return a JSON value with null for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
