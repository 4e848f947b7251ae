"""Takedown: of a withdrawn track, OUT keeps the id, the reason and the time, and nothing else.

First the journal gets the track's row of status `withdrawn`, so that no run separates it again. Then its stems are removed, whose
paths its older rows still have; then these rows are emptied, in the journal's older files too. A takedown that was killed goes on
where it was when it is called again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from sep_batch.pipeline import storage
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.journal import Journal
from sep_batch.pipeline.rows import JOURNAL
from sep_batch.pipeline.storage import uris

WITHDRAWN = "withdrawn"
KEPT = ("id", "status", "error", "finished_at")  # columns of a withdrawn track that are not null
ERASED = "(withdrawn)"  # in place of a text that names a withdrawn track
GROUP_ROWS = 50_000

_KNOWN = "SELECT id, status FROM newest SEMI JOIN chosen USING (id)"
# All that any row of these tracks named, but for what the newest row of another track has.
_STEMS = """SELECT DISTINCT s.uri FROM (SELECT unnest(stems) AS s FROM rows SEMI JOIN chosen USING (id))
    WHERE s.uri NOT IN (
        SELECT o.uri FROM (SELECT unnest(stems) AS o FROM newest ANTI JOIN chosen USING (id) WHERE status = 'ok')
        WHERE o.uri IS NOT NULL)
    ORDER BY ALL"""
_SOURCES = "SELECT DISTINCT uri FROM rows SEMI JOIN chosen USING (id) WHERE uri IS NOT NULL"
_SHARED = "SELECT DISTINCT uri FROM newest ANTI JOIN chosen USING (id) WHERE uri IS NOT NULL"


def choose(journal: JournalDatabase, ids: Collection[str]) -> dict[str, str]:
    """Choose the tracks of a takedown for the functions below; return the status of those that the journal has, by id."""
    journal.database.register("chosen", pa.table({"id": pa.array(sorted(ids), pa.string())}))
    return dict(journal.database.execute(_KNOWN).fetchall())


def stem_uris(journal: JournalDatabase) -> list[str]:
    """Return the URIs of all stems that the chosen tracks have had, relative to OUT."""
    return [uri for (uri,) in journal.database.execute(_STEMS).fetchall()]


def source_uris(journal: JournalDatabase) -> list[str]:
    """Return the URIs of the chosen tracks' sources that no other track has."""
    shared = {uri for (uri,) in journal.database.execute(f"{_SHARED} AND uri IN ({_SOURCES})").fetchall()}
    return [uri for (uri,) in journal.database.execute(_SOURCES).fetchall() if uri not in shared]


def mark(ids: Collection[str], why: str, writer: Journal) -> None:
    """Write the rows of status `withdrawn`; they are durable then."""
    now = datetime.now(UTC)
    rows = [{"id": id, "status": WITHDRAWN, "error": why, "finished_at": now} for id in sorted(ids)]
    writer.add(pa.Table.from_pylist(rows, schema=JOURNAL))
    writer.flush()


def remove_stem(out: str, uri: str) -> None:
    """Remove a stem; on a disk also the folders that are empty then, which may bear the name of its source."""
    storage.remove(f"{out}/{uri}")
    if not uris.is_local(out):
        return
    top, folder = Path(out), Path(out, uri).parent
    while folder != top and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def empty_rows(out: str, ids: Collection[str], scratch: Path, check: Callable[[], None]) -> int:
    """Empty all rows of tracks in the files of OUT's journal; return the number of files that were written again.

    Args:
        out: OUT.
        ids: Ids of tracks that have a row of status `withdrawn`.
        scratch: Local folder for the files; on the journal's disk if the journal is on a disk.
        check: Called before each write; raises if OUT's lease is lost.
    """
    chosen, written = pa.array(sorted(ids), pa.string()), 0
    for info in storage.find(layout.journal_folder(out)):
        if not info.uri.endswith(".parquet"):
            continue
        content = pyarrow.parquet.ParquetFile(io.BytesIO(storage.read(info.uri)))
        if not _names(content, chosen):
            continue
        path = scratch / "emptied.parquet"
        with pyarrow.parquet.ParquetWriter(path, content.schema_arrow) as writer:
            for batch in content.iter_batches(GROUP_ROWS):
                writer.write_table(emptied(pa.Table.from_batches([batch]), chosen))
        check()
        storage.put_file(info.uri, path)
        written += 1
    return written


def _names(content: pyarrow.parquet.ParquetFile, chosen: pa.Array) -> bool:
    """Return whether a file of the journal has more of these tracks than their withdrawal."""
    columns = [name for name in ("id", "uri", "status", "stems") if name in content.schema_arrow.names]
    own = content.read(columns=columns)
    own = own.filter(pc.is_in(own.column("id"), value_set=chosen))
    return any(own.column(name).null_count < own.num_rows for name in ("uri", "stems") if name in columns) or bool(
        pc.any(pc.not_equal(own.column("status"), WITHDRAWN)).as_py()
    )


def emptied(table: pa.Table, chosen: pa.Array) -> pa.Table:
    """Return rows of the journal, those of some tracks with nothing but their id and status `withdrawn`."""
    is_chosen = pc.is_in(table.column("id"), value_set=chosen)
    is_mark = pc.and_(is_chosen, pc.fill_null(pc.equal(table.column("status"), WITHDRAWN), fill_value=False))
    columns = []
    for field in table.schema:
        own = table.column(field.name)
        if field.name == "status":
            own = pc.if_else(is_chosen, pa.scalar(WITHDRAWN, field.type), own)
        elif field.name != "id":
            own = _without(own, pc.and_not(is_chosen, is_mark) if field.name in KEPT else is_chosen)
        columns.append(own)
    return pa.table(columns, schema=table.schema)


def _without(column: pa.ChunkedArray, erased: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of any type with nulls in some rows: they are taken from a null behind the last row."""
    positions = pc.if_else(erased, pa.scalar(len(column)), pa.array(range(len(column))))
    return pa.chunked_array([*column.chunks, pa.nulls(1, column.type)]).take(positions)


def erase_texts(out: str, names: Collection[str], scratch: str, check: Callable[[], None]) -> int:
    """Erase texts that name sources or stems from run.json and the records of the runs; return the number of files written."""
    written, texts = 0, sorted(names, key=len, reverse=True)
    records = [info.uri for info in storage.find(layout.runs_folder(out)) if info.uri.endswith(".json")]
    run_json = f"{out}/{layout.RUN_JSON}"
    for uri in [*records, *([run_json] if storage.exists(run_json) else [])]:
        content = json.loads(storage.read(uri))
        if (erased := _erased(content, texts)) != content:
            check()
            storage.put(uri, json.dumps(erased, indent=2, sort_keys=uri == run_json).encode(), scratch=scratch)
            written += 1
    return written


def _erased(value: Any, texts: Collection[str]) -> Any:
    if isinstance(value, str):
        return ERASED if any(text in value for text in texts) else value
    if isinstance(value, list):
        return [_erased(item, texts) for item in value]
    if isinstance(value, Mapping):
        return {key: _erased(item, texts) for key, item in value.items()}
    return value
