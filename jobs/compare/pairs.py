"""Tracks and stems of two OUTs, joined in DuckDB, which spills to disk: memory does not grow with the catalogs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb

from sep_batch.pipeline.out import database
from sep_batch.pipeline.scoring import stem_file
from sep_batch.pipeline.storage.retries import listing

AT_ONCE = 1000  # pairs that are Python objects at a time
_TRACKS = "SELECT id, status, coalesce(error_class, status) AS state FROM newest"
_TABLES = (
    "CREATE TABLE results (id VARCHAR, stem VARCHAR, snr_db DOUBLE, level_db DOUBLE, finding VARCHAR, detail VARCHAR)",
    "CREATE TABLE findings (kind VARCHAR, id VARCHAR, stem VARCHAR, detail VARCHAR)",
    """INSERT INTO findings
        SELECT 'ok_in_one', id, NULL, format('ok in {} only, {} in the other', if(ours, 'OUT_A', 'OUT_B'), state) FROM (
        SELECT id, coalesce(a.status = 'ok', false) AS ours, coalesce(b.status = 'ok', false) AS theirs,
            coalesce(if(ours, b.state, a.state), 'missing') AS state
        FROM tracks_a a FULL JOIN tracks_b b USING (id)) WHERE ours <> theirs""",
    """INSERT INTO findings SELECT 'ok_in_none', id, NULL,
            format('{} in OUT_A, {} in OUT_B', coalesce(a.state, 'missing'), coalesce(b.state, 'missing'))
        FROM tracks_a a FULL JOIN tracks_b b USING (id)
        WHERE a.status IS DISTINCT FROM 'ok' AND b.status IS DISTINCT FROM 'ok'""",
    "CREATE TABLE both_ok AS SELECT id FROM tracks_a a JOIN tracks_b b USING (id) WHERE a.status = 'ok' AND b.status = 'ok'",
    """INSERT INTO findings
        SELECT 'stem_in_one', id, coalesce(a.stem, b.stem), if(b.stem IS NULL, 'in OUT_A only', 'in OUT_B only')
        FROM stems_a a FULL JOIN stems_b b USING (id, stem) SEMI JOIN both_ok USING (id)
        WHERE a.stem IS NULL OR b.stem IS NULL""",
    """INSERT INTO results SELECT id, stem, 'Infinity'::DOUBLE, 0, NULL, NULL
        FROM stems_a a JOIN stems_b b USING (id, stem) WHERE a.sha256 = b.sha256""",
)
_LEFT = "FROM stems_a a JOIN stems_b b USING (id, stem) WHERE a.sha256 IS DISTINCT FROM b.sha256"


def collect(connection: duckdb.DuckDBPyConnection, out_a: str, out_b: str) -> None:
    """Create the tables `findings` (kind, id, stem, detail), `both_ok` (id), and `results`, which holds the equal files.

    Args:
        connection: An empty database. It also gets tracks and stems of each OUT: `tracks_a`, `stems_a`, `tracks_b`, `stems_b`.
        out_a: OUT_A, absolute.
        out_b: OUT_B, absolute.
    """
    for name, out in (("a", out_a), ("b", out_b)):
        _load(connection, name, out)
    for statement in _TABLES:
        connection.execute(statement)


@listing
def _load(connection: duckdb.DuckDBPyConnection, name: str, out: str) -> None:
    """Copy an OUT's tracks and stems, so that its journal is not read any more."""
    with database.opened(out) as journal:
        for table, sql in ((f"tracks_{name}", _TRACKS), (f"stems_{name}", stem_file.SQL)):
            connection.register("incoming", journal.database.sql(sql).to_arrow_reader())
            connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM incoming")
            connection.unregister("incoming")


def differing(connection: duckdb.DuckDBPyConnection) -> tuple[int, Iterator[tuple[dict[str, Any], dict[str, Any]]]]:
    """Return the number of stems whose bytes differ, and their rows in both OUTs, as `stem_file.SQL` gives them."""
    ((count,),) = connection.execute(f"SELECT count(*) {_LEFT}").fetchall()
    return count, _rows(connection.cursor().execute(f"SELECT a, b {_LEFT} ORDER BY id, stem"))


def _rows(cursor: duckdb.DuckDBPyConnection) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    while batch := cursor.fetchmany(AT_ONCE):
        yield from batch
