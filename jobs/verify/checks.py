"""Faults of an OUT, found by joining its journal, its published index and one listing of its storage in DuckDB.

Rows stay in DuckDB, which spills to disk, so memory does not grow with the catalog. Only the journal and the index are read here;
read_stems.py reads the stems.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

import duckdb
import pyarrow as pa

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import database, layout
from sep_batch.pipeline.out.column_types import quoted
from sep_batch.pipeline.out.database import JournalDatabase

KINDS = {  # kinds of findings: their text for one finding, and for several
    "journal": ("journal file cannot be read", "journal files cannot be read"),
    "index": ("difference between index and journal", "differences between index and journal"),
    "missing": ("stem is missing", "stems are missing"),
    "size": ("stem has another size", "stems have another size"),
    "bytes": ("stem holds other bytes", "stems hold other bytes"),
    "decode": ("stem does not decode as recorded", "stems do not decode as recorded"),
    "unread": ("stem could not be read from storage", "stems could not be read from storage"),
    "shared": ("stem is named by two tracks", "stems are named by two tracks"),
    "orphan": ("orphan: no track's newest row names it", "orphans: no track's newest row names them"),
    "leftover": ("left-over of a run", "left-overs of runs"),
}
BROKEN = ("missing", "size", "bytes", "decode")  # kinds for which a repair has the track separated again
ROWS = 10_000  # rows of the listing that are Python objects at a time

_LISTED = pa.schema([("uri", pa.string()), ("bytes", pa.int64()), ("modified", pa.timestamp("us", tz="UTC"))])
# Where stems lie in OUT itself, other files may lie beside them: only those that some row has named are this OUT's.
_IN_OUT = """CREATE TABLE in_out AS SELECT DISTINCT s.uri FROM (SELECT unnest(stems) AS s FROM rows)
    WHERE NOT starts_with(s.uri, 'stems/')"""
_TABLES = (
    "SET memory_limit = '1GB'",  # queries that need more spill to disk
    "SET threads = 4",  # each needs a share of this memory
    "CREATE TABLE findings (kind VARCHAR, id VARCHAR, uri VARCHAR, found VARCHAR)",
    """CREATE TABLE wanted AS SELECT id, audio_s, s.uri, s.bytes, s.sha256, s.frames, s.codec, s.sample_rate_hz
        FROM (SELECT id, audio_s, unnest(stems) AS s FROM newest WHERE status = 'ok')""",
    "CREATE TABLE listed (uri VARCHAR, bytes BIGINT, modified TIMESTAMPTZ)",
    _IN_OUT,
    "CREATE MACRO is_temporary(uri) AS regexp_matches(uri, '/[.][^/]*[.]part$') AND NOT starts_with(uri, '_sep/lease/')",
)
# Stems that a run is about to overwrite are no orphans either: earlier rows of their tracks name them.
_NAMED = """CREATE TABLE named AS SELECT DISTINCT s.uri FROM (
    SELECT unnest(stems) AS s FROM newest
    UNION ALL SELECT unnest(stems) FROM published
    UNION ALL SELECT unnest(rows.stems) FROM rows SEMI JOIN newest
        ON newest.id = rows.id AND newest.status IN ('deleted', 'replaced'))"""
_INDEX_CHECKS = (
    """INSERT INTO findings SELECT 'index', theirs, $uri, 'in the index, not in the journal' FROM compared WHERE ours IS NULL""",
    """INSERT INTO findings SELECT 'index', ours, $uri, 'in the journal, not in the index' FROM compared WHERE theirs IS NULL""",
    """INSERT INTO findings SELECT 'index', id, $uri, 'differs from the journal in ' || columns
        FROM differing WHERE columns <> ''""",
    """INSERT INTO findings SELECT 'index', id, $uri, format('{} times in the index', count(*))
        FROM published GROUP BY id HAVING count(*) > 1""",
    """INSERT INTO findings SELECT 'index', min(id), $uri, 'not in the order of ids'
        FROM (SELECT id, id < lag(id) OVER (ORDER BY _sep_place) AS is_back FROM published)
        WHERE is_back HAVING count(*) > 0""",
)
_STORAGE_CHECKS = (
    """INSERT INTO findings SELECT 'missing', id, uri, 'not there' FROM wanted ANTI JOIN listed USING (uri)""",
    """INSERT INTO findings SELECT 'size', id, w.uri, format('{} bytes, expected {}', l.bytes, w.bytes)
        FROM wanted w JOIN listed l ON w.uri = l.uri AND w.bytes <> l.bytes""",
    """INSERT INTO findings SELECT 'shared', min(id), uri, 'also named by track ' || max(id)
        FROM wanted GROUP BY uri HAVING min(id) <> max(id)""",
    """INSERT INTO findings
        SELECT 'orphan', NULL, uri, format('{} bytes', bytes) || coalesce(strftime(modified, ', of %Y-%m-%d %H:%M UTC'), '')
        FROM listed ANTI JOIN named USING (uri) WHERE NOT is_temporary(uri)
        AND (starts_with(uri, 'stems/') OR uri IN (FROM in_out))""",
    """INSERT INTO findings SELECT 'leftover', NULL, uri, format('{} bytes', bytes)
        FROM listed WHERE starts_with(uri, '_sep/parts/') OR starts_with(uri, '_sep/plan/') OR is_temporary(uri)""",
)


def collect(journal: JournalDatabase, out: str) -> None:
    """Check everything except the content of stems, and fill the table `findings`: kind, id, uri (relative to OUT), found.

    Args:
        journal: OUT's journal. Its database gets further tables: `wanted`, the stems of ok tracks; `listed`, the objects in
            storage; `in_out`, stems that rows name in OUT itself; `named`, all stems that a newest row or the index
            names, or that are about to be overwritten; and the view `published`, the index.
        out: OUT.
    """
    sql = journal.database.execute
    for statement in _TABLES:
        sql(statement)
    for uri, why in journal.unreadable.items():
        _add(journal, "journal", uri[len(out) + 1 :], why)
    _compare_index(journal, out)
    are_in_out = sql("SELECT count(*) FROM in_out").fetchall()[0][0] > 0
    for table in _listed(out, is_whole=are_in_out):
        journal.database.register("few", table)
        sql("INSERT INTO listed FROM few")
    sql(_NAMED)
    for check in _STORAGE_CHECKS:
        sql(check)


def _add(journal: JournalDatabase, kind: str, uri: str, description: str) -> None:
    journal.database.execute("INSERT INTO findings VALUES (?, NULL, ?, ?)", (kind, uri, description))


def _listed(out: str, *, is_whole: bool) -> Iterator[pa.Table]:
    """Yield the objects of OUT, or only those below `stems` and `_sep`, `ROWS` at a time."""
    if is_whole:  # a folder that cannot be read is another's, or its stems are missing
        infos = storage.find(out, lambda _kind, _path: None)
    else:
        infos = chain.from_iterable(storage.find(f"{out}/{folder}") for folder in ("stems", "_sep"))
    rows = ((info.uri[len(out) + 1 :], info.bytes, info.modified) for info in infos)
    while chunk := list(islice(rows, ROWS)):
        columns = zip(zip(*chunk, strict=True), _LISTED.types, strict=True)
        yield pa.table([pa.array(column, kind) for column, kind in columns], schema=_LISTED)


def _compare_index(journal: JournalDatabase, out: str) -> None:
    """Open the published index as the view `published`, and find where it differs from the journal's newest rows by id."""
    uri = f"{out}/{layout.INDEX_FILE}"
    if not storage.exists(uri):
        fault = "not there" if journal.files else None
        journal.view("published", [])
    elif fault := database.fault(path := database.here(uri, journal.folder)):
        journal.view("published", [])
    else:
        journal.view("published", [path])
        try:
            _compare(journal.database)
            for check in _INDEX_CHECKS:
                journal.database.execute(check, {"uri": layout.INDEX_FILE})
        except (duckdb.BinderException, duckdb.ConversionException) as error:  # a column's type does not convert to ours
            journal.view("published", [])
            fault = errors.first_line(error)
    if fault:
        _add(journal, "index", layout.INDEX_FILE, fault)


def _compare(database: duckdb.DuckDBPyConnection) -> None:
    """Create the table `compared`, ids whose rows differ between journal and index, and the view `differing`: id, columns."""
    views = ("whole_newest", "whole_published")
    ours, theirs = ({name.lower(): name for name in database.table(view).columns} for view in views)
    names = [name for name in ours | theirs if name not in ("id", "_sep_file", "_sep_place")]
    pairs = {
        name: tuple(_column(*pair) for pair in zip(views, (ours.get(name), theirs.get(name)), strict=True)) for name in names
    }
    our_values, their_values = (", ".join(pair[side] for pair in pairs.values()) for side in (0, 1))
    columns = ", ".join(f"CASE WHEN {a} IS DISTINCT FROM {b} THEN {quoted(name, chr(39))} END" for name, (a, b) in pairs.items())
    database.execute(  # whole rows are joined only where their hashes differ
        f"""CREATE TABLE compared AS SELECT n.id AS ours, p.id AS theirs
            FROM (SELECT id, hash({our_values}) AS hashed FROM whole_newest) n
            FULL JOIN (SELECT id, hash({their_values}) AS hashed FROM whole_published) p ON n.id = p.id
            WHERE n.hashed IS DISTINCT FROM p.hashed"""  # noqa: S608 (quoted names of columns)
    )
    database.execute(
        f"""CREATE VIEW differing AS SELECT compared.ours AS id, concat_ws(', ', {columns}) AS columns
            FROM compared JOIN whole_newest ON whole_newest.id = compared.ours
            JOIN whole_published ON whole_published.id = compared.theirs"""  # noqa: S608 (quoted names of columns)
    )


def _column(view: str, name: str | None) -> str:
    return "NULL" if name is None else f"{view}.{quoted(name)}"
