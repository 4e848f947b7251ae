"""Report of `failures`, as text and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sep_batch.jobs.failures.advice import ADVICE, RETRY_HINT
from sep_batch.jobs.progress.print_result import tell
from sep_batch.jobs.setup.units import tracks
from sep_batch.pipeline.errors import BUG
from sep_batch.pipeline.manifest import SHOWN
from sep_batch.pipeline.storage.uris import printable


@dataclass(frozen=True)
class Group:
    """Failed tracks with the same class, stage and kind of message.

    Attributes:
        error_class, stage, transient: Class and stage of the failure, and if it is transient.
        message: Common message, with `…` and `N` in place of the parts that differ.
        tracks: Number of tracks.
        retried: Number of tracks that the same command retries.
        id, uri, error: Id, URI and error of one of the tracks.
    """

    error_class: str
    stage: str
    transient: bool
    message: str
    tracks: int
    retried: int
    id: str
    uri: str
    error: str


@dataclass(frozen=True)
class Report:
    """Failed tracks of an OUT.

    Attributes:
        out: OUT.
        tracks: Number of tracks in the journal.
        failed: Number of failed tracks, of the class that was selected.
        groups: Groups of these tracks, the largest first.
        to: File that the manifest of these tracks was written to.
        ok_damaged: Number of ok tracks that are truncated or with skipped packets.
        next: Next command, with OUT's own flags; None if nothing failed.
    """

    out: str
    tracks: int
    failed: int
    groups: list[Group]
    to: str | None = None
    ok_damaged: int = 0
    next: str | None = None


def show(report: Report, *, as_json: bool) -> None:
    """Print a report as one line of JSON, or as text."""
    tell(report, lines(report), as_json=as_json)


def lines(report: Report) -> Iterator[str]:
    """Yield the lines of the report."""
    yield f"{report.out}: {report.failed:,} of {tracks(report.tracks)} failed"
    if report.groups:
        yield from _table(report.groups[:SHOWN])
    if len(report.groups) > SHOWN:
        yield f"and {len(report.groups) - SHOWN:,} more messages; --json lists all"
    for name in dict.fromkeys(group.error_class for group in report.groups):
        yield f"{name}: {ADVICE.get(name, 'a class of another version of sep-batch')}"
    if report.ok_damaged:
        yield f"{report.ok_damaged:,} more are ok but damaged: see truncated and skipped_packets in the index"
    if retried := sum(group.retried for group in report.groups):
        yield f"the same command run again retries {retried:,} of them"
    if retried < report.failed:
        yield RETRY_HINT
    if report.to:
        yield f"{tracks(report.failed)} in {report.to}" + ("" if report.failed else "; nothing to run again")
    if report.next:
        yield f"next: {report.next}"


def _table(groups: list[Group]) -> Iterator[str]:
    """Yield a header, and two lines for each group: its common fields, and one track."""
    widths = [max(len(text) for text in column) for column in zip(*map(_cells, groups), strict=True)]
    head = ("tracks", "class", "stage", "transient")
    widths = [max(width, len(name)) for width, name in zip(widths, head, strict=True)]
    yield _row(head, widths) + "message"
    for group in groups:
        yield _row(_cells(group), widths) + printable(
            group.message if group.tracks > 1 or group.error_class == BUG else group.error
        )
        yield " " * (widths[0] + 2) + f"e.g. {group.id}: {printable(group.uri) or 'no URI'}"


def _cells(group: Group) -> tuple[str, str, str, str]:
    return f"{group.tracks:,}", group.error_class, group.stage or "", "yes" if group.transient else "no"


def _row(cells: tuple[str, str, str, str], widths: list[int]) -> str:
    count, *words = cells
    return count.rjust(widths[0]) + "  " + "".join(word.ljust(width + 2) for word, width in zip(words, widths[1:], strict=True))
