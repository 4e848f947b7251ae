"""Sorting of rows by id into one Parquet file, however many they are: they are first spread over ranges of ids, on disk.

Rows are wide, thousands of bytes if stems are analysed: a database that sorts a million of them holds gigabytes, or runs out of
memory. Here only one range is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet

ROWS = 50_000  # in a range, about
MOST_RANGES = 300  # each is an open file
BATCH_ROWS = 10_000
IDS_A_RANGE = 200  # that are sampled to choose ranges of the same size


def bounds(database: duckdb.DuckDBPyConnection) -> list[str]:
    """Return ids that divide the view `rows` into ranges of about `ROWS` rows, from a sample of its ids, chosen by hash."""
    database = database.cursor()
    rows = database.sql("SELECT count(*) FROM rows").fetchall()[0][0]
    ranges = min(MOST_RANGES, math.ceil(rows / ROWS))
    if ranges < 2:
        return []
    some = "SELECT id FROM rows WHERE hash(id) % $many = 0 GROUP BY id ORDER BY id"
    ids = [id for (id,) in database.sql(some, params={"many": math.ceil(ROWS / IDS_A_RANGE)}).fetchall()]
    return sorted({ids[len(ids) * number // ranges] for number in range(1, ranges)}) if ids else []


def write(batches: pa.RecordBatchReader, bounds: Sequence[str], folder: Path, path: Path) -> None:
    """Write rows ordered by `id`, each range a row group.

    Args:
        batches: Rows, in any order; their schema is the file's.
        bounds: Ids at which a new range begins, ascending.
        folder: Folder for the ranges; it is empty afterwards.
        path: Path of the file.
    """
    ranges = [folder / f"{number:06d}.arrows" for number in range(len(bounds) + 1)]
    with ExitStack() as stack:
        files = [stack.enter_context(pa.OSFile(str(range_path), "wb")) for range_path in ranges]
        writers = [stack.enter_context(_writer(file, batches.schema)) for file in files]
        for batch in batches:
            for number, rows in _spread(batch, bounds):
                writers[number].write_batch(rows)
    with pyarrow.parquet.ParquetWriter(path, batches.schema) as writer:
        for range_path in ranges:
            with pa.OSFile(str(range_path)) as source:
                rows = pa.ipc.open_stream(source).read_all()
            range_path.unlink()
            if rows.num_rows:
                writer.write_table(rows.combine_chunks().sort_by("id"))


def _writer(sink: pa.NativeFile, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
    return pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))


def _spread(batch: pa.RecordBatch, bounds: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of a batch in each range, with the range's number."""
    if not bounds:
        yield 0, batch
        return
    ids = batch.column("id").to_numpy(zero_copy_only=False)
    numbers = np.searchsorted(np.array(bounds, object), ids, side="right")
    order = np.argsort(numbers, kind="stable")
    ordered, (range_numbers, starts) = batch.take(pa.array(order)), np.unique(numbers[order], return_index=True)
    for number, start, end in zip(range_numbers, starts, [*starts[1:], len(order)], strict=True):
        yield int(number), ordered.slice(int(start), int(end - start))
