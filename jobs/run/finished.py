"""Finished rows: write them to the journal, count them in the summary, pass them to the progress."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa

from sep_batch.jobs.progress.bottleneck import COLUMNS
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import STEMS_SHOWN_OF, Summary
from sep_batch.pipeline import errors as failures
from sep_batch.pipeline.out.journal import FLUSH_ROWS, Journal
from sep_batch.pipeline.rows import EXTRA, JOURNAL, PROBLEM

AT_ONCE = FLUSH_ROWS
_FAILURE = ("error_class", "error_stage", "error", "transient")
_REPORTED = [
    "id",
    "uri",
    "offset_s",
    "duration_s",
    "status",
    *_FAILURE,
    "audio_s",
    "truncated",
    "skipped_packets",
    "tags_warning",
    *COLUMNS.values(),
]


def take(finished: Sequence[pa.Table], journal: Journal, summary: Summary, progress: Progress) -> None:
    """Journal, count and report finished rows.

    Raises:
        BugError: A row failed because of a defect of sep-batch.
    """
    if not finished:
        return
    rows = pa.concat_tables(finished, promote_options="permissive")
    journal.add(rows)
    for number, row in enumerate(rows.select(_REPORTED).to_pylist()):
        is_damaged = bool(row["truncated"] or row["skipped_packets"])
        summary.count(row["status"], row["error_class"], row["audio_s"] or 0.0, is_damaged=is_damaged)
        summary.ok_lacking_tags += row["status"] == "ok" and row["tags_warning"] is not None
        if row["status"] == "ok" and summary.ok <= STEMS_SHOWN_OF:  # their columns are too long for all of a catalog
            summary.stems += [stem["uri"] for stem in rows.column("stems")[number].as_py()]
        summary.spend(row)
        progress.take(row)
        if row["error_class"] == failures.BUG:
            raise failures.BugError(f"a defect of sep-batch, on track {row['id']}:\n{row['error']}")


def fail(bad_rows: pa.Table, settings_sha256: str, journal: Journal, summary: Summary, progress: Progress) -> None:
    """Journal, count and report bad rows of the manifest as failed tracks.

    Args:
        bad_rows: Columns of TRACK and `problem`, as in `Plan.bad_rows`.
        settings_sha256: SHA-256 of the run's settings.
        journal: The run's journal.
        summary: The run's summary.
        progress: The run's progress.
    """
    for start in range(0, bad_rows.num_rows, AT_ONCE):
        take([_failed(bad_rows.slice(start, AT_ONCE), settings_sha256, journal.run)], journal, summary, progress)


def _failed(rows: pa.Table, settings_sha256: str, run: str) -> pa.Table:
    constants = {
        **failures.describe(failures.BadRow(), failures.BadRow.stage),
        "attempts": 1,
        "settings_sha256": settings_sha256,
        "run_id": run,
        "finished_at": datetime.now(UTC),
    }
    errors = [failures.one_line(problem) for problem in rows.column(PROBLEM).to_pylist()]
    columns = {}
    for field in JOURNAL:
        if field.name == "error":
            columns[field.name] = pa.array(errors, field.type)
        elif field.name in constants:
            columns[field.name] = pa.array([constants[field.name]] * rows.num_rows, field.type)
        else:
            is_present = field.name in rows.column_names
            columns[field.name] = rows.column(field.name) if is_present else pa.nulls(rows.num_rows, field.type)
    if EXTRA in rows.column_names:
        columns[EXTRA] = rows.column(EXTRA)
    return pa.table(columns)
