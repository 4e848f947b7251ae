"""Report of `verify`, as text and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sep_batch.jobs.progress.print_result import tell
from sep_batch.jobs.setup.units import data_size
from sep_batch.jobs.verify.checks import BROKEN, KINDS
from sep_batch.jobs.verify.repair import REMOVED_FROM, SET_ASIDE

_HOURS = f"{REMOVED_FROM.total_seconds() / 3600:g} h"
_HINTS = {  # by the kinds of findings that they help with
    (*BROKEN, "index", "journal"): "--repair marks tracks with broken stems for the next run, and publishes the index again",
    ("shared",): "two tracks with one path overwrite each other: separate them into another --out, or with {id} in --filename",
    ("orphan",): f"--repair --yes removes orphans older than {_HOURS}",
    ("leftover",): f"the next run removes left-overs; --repair --yes removes parts among them that are older than {_HOURS}",
}
_DONE = {  # texts for the numbers that `mend` returns
    "marked": "tracks marked for the next run of their manifests",
    "taken_back": "rows restored from the index, which the journal had lost",
    "set_aside": f"journal files set aside as *{SET_ASIDE}",
    "published": "index published again",
    "removed": f"orphans and left-overs removed (not those younger than {_HOURS}; none while a journal file *{SET_ASIDE} exists)",
}


@dataclass
class Report:
    """Findings of a check.

    Attributes:
        out: OUT.
        deep: Every stem was read.
        tracks: Number of tracks in the journal, by status.
        stems: Number of stems of the tracks that are ok.
        bytes: Bytes of these stems, according to the journal.
        counts: Number of findings by kind, one of `checks.KINDS`.
        findings: First findings by kind: id, uri (relative to OUT), found.
        repaired: Numbers of repairs, as `mend` returns them; None without a repair, or without findings.
        at_work: Run that was at work on OUT during the check; its unfinished work may be among the findings.
        seconds: Duration of the check.
        exit_code: 0, or 8 with findings.
    """

    out: str
    deep: bool
    tracks: dict[str, int]
    stems: int
    bytes: int
    counts: dict[str, int]
    findings: dict[str, list[dict[str, str | None]]]
    repaired: dict[str, int] | None = None
    at_work: str | None = None
    seconds: float = 0.0
    exit_code: int = 0


def show(report: Report, *, as_json: bool) -> None:
    """Print a report as one line of JSON, or as text."""
    tell(report, lines(report), as_json=as_json)


def lines(report: Report) -> Iterator[str]:
    """Yield the lines of the report."""
    tracks = ", ".join(f"{count} {status}" for status, count in report.tracks.items()) or "none"
    read = "all of them read" if report.deep else "not read (--deep does)"
    yield f"{report.out}: tracks: {tracks}; {report.stems} stems, {data_size(report.bytes)}, {read}; {report.seconds:.1f} s"
    if report.at_work:
        yield f"{report.at_work}; its unfinished work may be among the findings"
    for kind, count in report.counts.items():
        yield f"{count} {KINDS[kind][count > 1]}:"
        for finding in report.findings[kind]:
            track = f" (track {finding['id']})" if finding["id"] else ""
            yield f"  {finding['uri']}{track}: {finding['found']}"
        if count > len(report.findings[kind]):
            yield f"  and {count - len(report.findings[kind])} more; --json lists all"
    if not report.counts:
        yield "nothing wrong was found"
    elif report.repaired is None:
        yield from (hint for kinds, hint in _HINTS.items() if report.counts.keys() & set(kinds))
    else:
        yield from (f"{_DONE[name]}: {count}" for name, count in report.repaired.items())
