"""The report of `verify`, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sep_batch.jobs.progress.print_result import tell
from sep_batch.jobs.verify.checks import BROKEN, KINDS
from sep_batch.jobs.verify.repair import REMOVED_FROM, SET_ASIDE

_HOURS = f"{REMOVED_FROM.total_seconds() / 3600:g} h"
_HINTS = {  # by the kinds of findings that they help with
    (*BROKEN, "index", "journal"): "--repair marks tracks of broken stems for the next run and publishes the index anew",
    ("shared",): "two tracks with one path write over each other: separate them into another --out, or with {id} in --filename",
    ("orphan",): f"--repair --yes removes orphans older than {_HOURS}",
    ("leftover",): f"the next run removes left-overs; --repair --yes those of parts older than {_HOURS}",
}
_DONE = {  # what `mend` did, in words
    "marked": "tracks marked for the next run of their manifests",
    "taken_back": "rows taken back from the index, which the journal had lost",
    "set_aside": f"journal files set aside as *{SET_ASIDE}",
    "published": "index published anew",
    "removed": f"orphans and left-overs removed (those younger than {_HOURS} stay, and all while a *{SET_ASIDE} may name them)",
}


@dataclass
class Report:
    """What was found.

    Attributes:
        out: OUT.
        deep: Every stem was read.
        tracks: Number of tracks in the journal, by status.
        stems: Number of stems of the tracks that are ok.
        bytes: Bytes of these stems, as the journal has them.
        counts: Findings by kind, as `findings.KINDS` names them.
        findings: By kind, the first ones: id, uri (relative to OUT), found.
        repaired: Repairs that `mend` made; None where it was not asked to, or there was nothing.
        at_work: The run that was at work on OUT meanwhile: what it had in hand looks like a finding.
        seconds: That it took.
        exit_code: 0, or 8 where anything was found.
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
    """Print a report: one line of JSON, or words for a person."""
    tell(report, lines(report), as_json=as_json)


def lines(report: Report) -> Iterator[str]:
    """Yield the report in words."""
    tracks = ", ".join(f"{count} {status}" for status, count in report.tracks.items()) or "none"
    read = "all of them read" if report.deep else "not read (--deep does)"
    yield f"{report.out}: tracks: {tracks}; {report.stems} stems, {report.bytes / 1e6:.1f} MB, {read}; {report.seconds:.1f} s"
    if report.at_work:
        yield f"{report.at_work}: what it has in hand looks like a finding"
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
