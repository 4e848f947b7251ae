"""The index: a pure function of the journal, the newest row of each id, ordered by id.

A run publishes it at its end. It can be made again at any time.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import storage
from sep_batch.pipeline.out import compaction, layout, sort_by_id
from sep_batch.pipeline.out.database import opened
from sep_batch.pipeline.rows import SCHEMA_KEY, SCHEMA_VERSION
from sep_batch.pipeline.storage import uris


def publish(out: str, run: str) -> bool:
    """Write the index from the journal; return False if the journal has no files."""
    with opened(out) as journal, beside(out, run) as folder:
        if not journal.files:
            return False
        path, bounds = folder / layout.INDEX_FILE, sort_by_id.bounds(journal.database)
        newest = np.sort(journal.database.sql("FROM newest_places").fetchnumpy()["_sep_place"])
        rows = _rows_at(newest, journal.database.sql("FROM whole_rows").to_arrow_reader(sort_by_id.BATCH_ROWS))
        with tempfile.TemporaryDirectory(dir=folder) as ranges:
            sort_by_id.write(rows, bounds, Path(ranges), path)
        storage.put_file(f"{out}/{layout.INDEX_FILE}", path)
    return True


def _rows_at(positions: np.ndarray, rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Return the rows at ascending positions, with the index's columns; a join in the database would hold many rows."""
    columns = [field for field in rows.schema if field.name not in ("_sep_file", "_sep_place")]
    schema = pa.schema(columns, {SCHEMA_KEY: SCHEMA_VERSION})

    def chosen() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            batch_positions = batch.column("_sep_place").to_numpy()
            is_newest = positions[np.searchsorted(positions, batch_positions).clip(max=len(positions) - 1)] == batch_positions
            yield batch.filter(pa.array(is_newest)).select(schema.names).cast(schema)

    return pa.RecordBatchReader.from_batches(schema, chosen())


def compact(out: str, run: str, *, check: Callable[[], None]) -> None:
    """Merge the journal's small files, before it is read.

    Args:
        out: OUT.
        run: Name of the run that holds OUT's lease.
        check: Raises if that run may no longer write.
    """
    with beside(out, run) as folder:
        compaction.compact(layout.journal_folder(out), folder, check)


@contextmanager
def beside(out: str, run: str) -> Iterator[Path]:
    """Yield a local folder for files that are about to be put into OUT; on OUT's disk if OUT is on a disk."""
    if uris.is_local(out):
        folder = Path(layout.parts_folder(out, run))
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def read(out: str) -> pa.Table:
    """Read the published index.

    Raises:
        NotFound: No index was published.
    """
    return pyarrow.parquet.read_table(io.BytesIO(storage.read(f"{out}/{layout.INDEX_FILE}")))
