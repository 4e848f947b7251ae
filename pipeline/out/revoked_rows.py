"""Journal rows that replace older ones: of tracks that are about to be separated again, and by repair."""

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


def revoke(journal: JournalDatabase, redone: pa.ChunkedArray, writer: Journal) -> int:
    """Write rows of status `replaced`, without stems, for tracks whose stems are about to be overwritten.

    If the run is killed midway, no row then lists stems whose bytes have changed.

    Args:
        journal: Journal of OUT before this run.
        redone: Ids of the tracks that are about to be separated; those that are not ok keep their rows.
        writer: Journal that this run writes.

    Returns:
        The number of these rows, which are durable then.
    """
    if not journal.files:
        return 0
    journal.database.register("redone", pa.table({"id": redone}))
    count = copy_rows(journal.database.sql(_REPLACED, params={"run": writer.run}), writer)
    journal.database.unregister("redone")
    writer.flush()
    return count


def copy_rows(rows: duckdb.DuckDBPyRelation, writer: Journal) -> int:
    """Write a query's rows, with the columns of the journal and of any manifest, to the journal; return their number."""
    count = 0
    for batch in rows.to_arrow_reader(FLUSH_ROWS):
        writer.add(_as_finished(pa.Table.from_batches([batch])))
        count += batch.num_rows
    return count


def _as_finished(table: pa.Table) -> pa.Table:
    """Return journal rows as the journal's writer takes them: the manifests' columns as one struct."""
    names = [name for name in table.column_names if name not in JOURNAL.names]
    rows = table.select(JOURNAL.names).cast(JOURNAL)
    if not names:
        return rows
    extra = pa.StructArray.from_arrays([table.column(name).combine_chunks() for name in names], names=names)
    return rows.append_column(EXTRA, extra)
