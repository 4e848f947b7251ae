"""The report of `failures`, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sep_batch.jobs.failures.advice import ADVICE, ONCE_MENDED
from sep_batch.jobs.progress.print_result import tell
from sep_batch.pipeline.errors import BUG
from sep_batch.pipeline.manifest import SHOWN
from sep_batch.pipeline.storage.uris import printable


@dataclass(frozen=True)
class Group:
    """Tracks that failed alike.

    Attributes:
        error_class, stage, transient: Theirs.
        message: Their messages as one, with `…` and `N` where they differ.
        tracks: How many.
        retried: Tracks among them that the same command tries again.
        id, uri, error: One of them, as an example.
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
    """What failed.

    Attributes:
        out: OUT.
        tracks: Ever run in it.
        failed: Tracks among them that failed and were asked for.
        groups: The largest first.
        to: Where the manifest of them was written.
        ok_damaged: Tracks that are ok, and truncated or with skipped packets.
        next: The command to type next, with OUT's own flags; None where nothing failed.
    """

    out: str
    tracks: int
    failed: int
    groups: list[Group]
    to: str | None = None
    ok_damaged: int = 0
    next: str | None = None


def show(report: Report, *, as_json: bool) -> None:
    """Print a report: one line of JSON, or words for a person."""
    tell(report, lines(report), as_json=as_json)


def lines(report: Report) -> Iterator[str]:
    """Yield the report in words."""
    yield f"{report.out}: {report.failed:,} of {report.tracks:,} tracks failed"
    if report.groups:
        yield from _table(report.groups[:SHOWN])
    if len(report.groups) > SHOWN:
        yield f"and {len(report.groups) - SHOWN:,} more messages; --json lists all"
    for name in dict.fromkeys(group.error_class for group in report.groups):
        yield f"{name}: {ADVICE.get(name, 'a class of another version of sep-batch')}"
    if report.ok_damaged:
        yield f"{report.ok_damaged:,} more are ok and damaged: truncated or with skipped packets, as the index says of each"
    if retried := sum(group.retried for group in report.groups):
        yield f"the same run again tries {retried:,} of them"
    if retried < report.failed:
        yield ONCE_MENDED
    if report.to:
        yield f"{report.failed:,} tracks in {report.to}" + ("" if report.failed else "; nothing to run again")
    if report.next:
        yield f"next: {report.next}"


def _table(groups: list[Group]) -> Iterator[str]:
    """Yield two lines a group: what they share, and one of them."""
    widths = [max(len(text) for text in column) for column in zip(*map(_cells, groups), strict=True)]
    head = ("tracks", "class", "stage", "transient")
    widths = [max(width, len(name)) for width, name in zip(widths, head, strict=True)]
    yield _row(head, widths) + "message"
    for group in groups:
        yield _row(_cells(group), widths) + printable(
            group.message if group.tracks > 1 or group.error_class == BUG else group.error
        )
        yield " " * (widths[0] + 2) + f"as {group.id}: {printable(group.uri) or 'no URI'}"


def _cells(group: Group) -> tuple[str, str, str, str]:
    return f"{group.tracks:,}", group.error_class, group.stage or "", "yes" if group.transient else "no"


def _row(cells: tuple[str, str, str, str], widths: list[int]) -> str:
    count, *words = cells
    return count.rjust(widths[0]) + "  " + "".join(word.ljust(width + 2) for word, width in zip(words, widths[1:], strict=True))
