"""Result of `compare`, as text and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from sep_batch.jobs.progress.print_result import tell

KINDS = {  # kinds of findings, which make the exit code 8: their text for one finding, and for several
    "nothing": ("no stem was compared", "no stems were compared"),
    "ok_in_one": ("track is ok in only one OUT", "tracks are ok in only one OUT"),
    "sample_rate": ("stem has another sample rate", "stems have another sample rate"),
    "channels": ("stem has other channels", "stems have other channels"),
    "length": ("stem has another length", "stems have another length"),
    "unreadable": ("stem cannot be read or decoded", "stems cannot be read or decoded"),
    "below": ("stem is below --min-snr", "stems are below --min-snr"),
}
NOTES = {  # kinds that do not
    "silent_in_one": ("stem is silent in only one OUT", "stems are silent in only one OUT"),
    "stem_in_one": ("stem is in only one OUT", "stems are in only one OUT"),
    "ok_in_none": ("track is ok in no OUT", "tracks are ok in no OUT"),
}
WIDTH = 100  # width of the table without a terminal


@dataclass
class Comparison:
    """Result of a comparison. Decibels are null where there is none: of equal stems, the SNR is infinite.

    Attributes:
        out_a: OUT_A, the reference.
        out_b: OUT_B.
        tracks: Number of tracks that are ok in both.
        stems: Results by stem: `compared` (number of stems), `equal` (of these, with the same samples), and of those that
            differ the median, mean and lowest SNR, its track, and the mean and largest level difference (B minus A), in dB.
        lowest: Stems with the lowest SNR: id, stem, snr_db, level_db.
        min_snr_db: Lowest SNR that is accepted; None accepts all.
        counts: Number of findings and notes by kind, of `KINDS` and `NOTES`.
        findings: First findings by kind: id, stem, detail.
        at_work: Runs that were at work on an OUT, whose stems may be incomplete.
        output: URI of the Parquet file with every row, None without one.
        seconds: Duration of the comparison.
        exit_code: 0, or 8 with findings.
    """

    out_a: str
    out_b: str
    tracks: int
    stems: dict[str, dict[str, Any]]
    lowest: list[dict[str, Any]]
    min_snr_db: float | None
    counts: dict[str, int]
    findings: dict[str, list[dict[str, Any]]]
    at_work: list[str] = field(default_factory=list)
    output: str | None = None
    seconds: float = 0.0
    exit_code: int = 0


def show(result: Comparison, *, as_json: bool) -> None:
    """Print a comparison as one line of JSON, or as text."""
    tell(result, lines(result), as_json=as_json)


def lines(result: Comparison) -> Iterator[str]:
    """Yield the lines of the result."""
    yield f"OUT_A {result.out_a}, OUT_B {result.out_b}: {result.tracks} tracks ok in both; {result.seconds:.1f} s"
    yield from (f"{run}; stems that it has not finished are missing here" for run in result.at_work)
    if result.stems:
        yield from printed(_table(result.stems))
    if result.lowest:
        yield "lowest SNR:"
        yield from (f"  {row['snr_db']:.1f} dB  {row['id']} {row['stem']}" for row in result.lowest)
    for kind, count in result.counts.items():
        yield f"{count} {(KINDS | NOTES)[kind][count > 1]}:"
        for finding in result.findings[kind]:
            yield f"  {' '.join(filter(None, (finding['id'], finding['stem'])))}: {finding['detail']}"
        if count > len(result.findings[kind]):
            yield f"  and {count - len(result.findings[kind])} more; --json lists all"
    if result.output:
        yield f"all rows: {result.output}"
    if not result.exit_code:
        yield "no findings" if result.min_snr_db is None else f"no findings; every SNR is {result.min_snr_db:g} dB or more"


def _table(stems: dict[str, dict[str, Any]]) -> Table:
    table = Table("stem", box=None, pad_edge=False, header_style="bold")
    for name in ("compared", "equal", "SNR median", "mean", "lowest, dB"):
        table.add_column(name, justify="right")
    table.add_column("track", overflow="fold")
    for name in ("level B - A mean", "largest, dB"):
        table.add_column(name, justify="right")
    for stem, row in stems.items():
        snrs = (decibels(row[name], 1) for name in ("snr_median_db", "snr_mean_db", "snr_lowest_db"))
        levels = (decibels(row[name], 2, sign="+") for name in ("level_mean_db", "level_largest_db"))
        table.add_row(stem, str(row["compared"]), str(row["equal"]), *snrs, row["lowest_id"] or "-", *levels)
    return table


def decibels(value: float | None, digits: int, *, sign: str = "") -> str:
    """Return a number of decibels as text, `-` without one."""
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def printed(table: Table) -> Iterator[str]:
    """Yield the lines of a table."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    with console.capture() as capture:
        console.print(table)
    yield from (line.rstrip() for line in capture.get().splitlines())
