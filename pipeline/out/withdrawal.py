"""Rows of the journal that are written anew as others: of tracks that are about to be separated again, and by repair."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.journal import FLUSH_ROWS, Journal
from sep_batch.pipeline.rows import EXTRA, JOURNAL

_REPLACED = """
    SELECT track.* EXCLUDE (_sep_file, _sep_place) REPLACE (
        'replaced' AS status, CASE WHEN false THEN track.stems END AS stems, now() AS finished_at, $run AS run_id)
    FROM whole_newest AS track SEMI JOIN redone ON redone.id = track.id WHERE track.status = 'ok'"""


def withdraw(journal: JournalDatabase, redone: pa.ChunkedArray, writer: Journal) -> int:
    """Give tracks whose stems are about to be written over rows of status `replaced`, which name no stems.

    A run that is killed midway then leaves no row that vouches for another's bytes.

    Args:
        journal: OUT's, as it was before this run.
        redone: Ids of the tracks that are about to be separated; those that are not ok keep their rows.
        writer: The run's.

    Returns:
        How many they are; their rows are durable then.
    """
    journal.database.register("redone", pa.table({"id": redone}))
    count = copy_rows(journal.database.sql(_REPLACED, params={"run": writer.run}), writer)
    journal.database.unregister("redone")
    writer.flush()
    return count


def copy_rows(rows: duckdb.DuckDBPyRelation, writer: Journal) -> int:
    """Write the rows of a query, with the journal's columns and any manifest's, to the journal; return how many."""
    count = 0
    for batch in rows.to_arrow_reader(FLUSH_ROWS):
        writer.add(_as_finished(pa.Table.from_batches([batch])))
        count += batch.num_rows
    return count


def _as_finished(table: pa.Table) -> pa.Table:
    """Return rows of the journal as its writer takes them: the manifest's own columns as one struct."""
    names = [name for name in table.column_names if name not in JOURNAL.names]
    rows = table.select(JOURNAL.names).cast(JOURNAL)
    if not names:
        return rows
    extra = pa.StructArray.from_arrays([table.column(name).combine_chunks() for name in names], names=names)
    return rows.append_column(EXTRA, extra)
