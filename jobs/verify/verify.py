"""`verify`: check the published index, the storage, and with `deep` every stem against OUT's journal.

from sep_batch.jobs.verify import run_verify
report = run_verify("songs.stems", deep=True)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext

from sep_batch.jobs.setup import outs
from sep_batch.jobs.verify import checks
from sep_batch.jobs.verify.read_stems import read_stems
from sep_batch.jobs.verify.repair import mend
from sep_batch.jobs.verify.report import Report
from sep_batch.pipeline import errors
from sep_batch.pipeline.manifest import SHOWN
from sep_batch.pipeline.out import database, lease
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing

REPORT_EVERY_S = 10.0


def run_verify(
    out: str,
    *,
    deep: bool = False,
    repair: bool = False,
    yes: bool = False,
    shown: int | None = SHOWN,
    report_line: Callable[[str], None] | None = None,
) -> Report:
    """Check an OUT, and optionally repair it.

    Args:
        out: OUT, a path or URI.
        deep: Read every stem.
        repair: Mark tracks with broken stems for the next run, and publish the index again.
        yes: With `repair`, remove old orphans.
        shown: Number of findings of each kind in the report; None is all.
        report_line: Called with a line of progress every `REPORT_EVERY_S` seconds while stems are read.

    Raises:
        UsageError: `yes` without `repair`.
        NotRunnableError: No run wrote to this place, or its storage cannot be read.
        LeaseHeldError: `repair` while a run works on OUT.
    """
    if yes and not repair:
        raise errors.UsageError("--yes: only with --repair; add --repair, or leave out --yes")
    begun = time.monotonic()
    try:
        out = uris.target(out)
        outs.refuse_no_out(out)
        at_work = None if repair else outs.run_at_work(out)
        with lease.hold(out) if repair else nullcontext() as held:
            report = _checked(out, held, deep=deep, remove=yes, shown=shown, report_line=report_line)
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"OUT {error}") from error
    report.at_work = at_work
    report.seconds = time.monotonic() - begun
    return report


@listing
def _checked(
    out: str, held: lease.Lease | None, *, deep: bool, remove: bool, shown: int | None, report_line: Callable[[str], None] | None
) -> Report:
    """Check an OUT, and repair it if its lease is held. The journal's files are not read any more once stems are."""
    with database.opened(out, skip_unreadable=True) as journal:
        checks.collect(journal, out)
        report = _report(journal, out)
        if deep:
            read_stems(journal.database, out, _progress(report.stems, report_line))
            report.deep = True
        _fill(report, journal, shown)
        if held and report.counts:
            report.repaired = mend(journal, out, held, remove=remove)
    return report


def _report(journal: JournalDatabase, out: str) -> Report:
    sql = journal.database.execute
    tracks = dict(sql("SELECT status, count(*) FROM newest GROUP BY status ORDER BY status").fetchall())
    stems, size = sql("SELECT count(*), coalesce(sum(bytes), 0)::BIGINT FROM wanted").fetchall()[0]
    return Report(out, deep=False, tracks=tracks, stems=stems, bytes=size, counts={}, findings={})


def _fill(report: Report, journal: JournalDatabase, shown: int | None) -> None:
    """Add the findings to the report, in the order of `KINDS`."""
    sql = journal.database.execute
    counts = dict(sql("SELECT kind, count(*) FROM findings GROUP BY kind").fetchall())
    for kind in (kind for kind in checks.KINDS if kind in counts):
        report.counts[kind] = counts[kind]
        query = "SELECT id, uri, found FROM findings WHERE kind = $kind ORDER BY uri, id, found LIMIT $shown"
        rows = sql(query, {"kind": kind, "shown": shown})
        report.findings[kind] = [dict(zip(("id", "uri", "found"), row, strict=True)) for row in rows.fetchall()]
        report.exit_code = errors.CHECK_FAILED


def _progress(stems: int, report_line: Callable[[str], None] | None) -> Callable[[int], None]:
    """Return a function that adds to the number of stems read, and reports it every `REPORT_EVERY_S` seconds."""
    done, last = 0, time.monotonic()

    def add(count: int) -> None:
        nonlocal done, last
        done += count
        if report_line and time.monotonic() - last >= REPORT_EVERY_S:
            report_line(f"{done} of {stems} stems read")
            last = time.monotonic()

    return add
