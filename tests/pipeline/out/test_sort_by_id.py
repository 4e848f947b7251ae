"""More rows than memory holds, sorted by id into one file: spread over ranges on disk, and none is lost, doubled or mixed up."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from sep_batch.pipeline.out import database, index, sort_by_id
from sep_batch.pipeline.rows import JOURNAL

LEVELS = 4_000  # of each row's one stem: what makes it wide


def reader(table, batch_rows=100):
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=batch_rows))


@pytest.mark.parametrize("bounds", [[], ["m"], ["", "z", "é"], ["b", "k", "k0", "Ω", "🎵"]], ids=len)
def test_rows_come_in_the_order_of_ids_whatever_the_ranges(bounds, tmp_path):
    letters = ["", "a", "k", "k0", "z", "~", "é", "Ω", "🎵"]
    ids = [f"{first}{second}{number}" for first in letters for second in letters for number in range(7)]
    order = np.random.default_rng(0).permutation(len(ids))
    table = pa.table({"id": [ids[place] for place in order], "same": [[ids[place]] * 3 for place in order]})
    (tmp_path / "ranges").mkdir()
    sort_by_id.write(reader(table), bounds, tmp_path / "ranges", tmp_path / "rows.parquet")
    written = pyarrow.parquet.ParquetFile(tmp_path / "rows.parquet")
    found = written.read().to_pylist()
    assert [row["id"] for row in found] == sorted(ids, key=str.encode)
    assert all(row["same"] == [row["id"]] * 3 for row in found)
    assert written.num_row_groups == len({sum(bound <= id for bound in bounds) for id in ids})
    assert not list((tmp_path / "ranges").iterdir())


def test_no_rows_are_a_file_without_rows(tmp_path):
    sort_by_id.write(reader(pa.table({"id": pa.array([], pa.string())})), ["m"], tmp_path, tmp_path / "rows.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").num_rows == 0


@pytest.fixture
def wide(tmp_path):
    """An OUT whose journal is wider than the database has memory for, each id in it twice."""
    rows, drawn = 4_000, np.random.default_rng(0)
    stems = JOURNAL.field("stems").type
    for run in (1, 2):
        ids = [f"t{number:05d}" for number in drawn.permutation(rows)]
        drawn_levels = pa.array(drawn.integers(-100, 0, rows * LEVELS, np.int8))
        levels = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32) * LEVELS, drawn_levels)
        columns = [levels if field.name == "levels_dbfs" else pa.nulls(rows, field.type) for field in stems.value_type]
        flat = pa.StructArray.from_arrays(columns, fields=list(stems.value_type))
        made = {"id": pa.array(ids), "run_id": pa.repeat(f"{run:06d}-aaaa", rows), "error": pa.array(ids)}
        made["stems"] = pa.ListArray.from_arrays(np.arange(rows + 1, dtype=np.int32), flat).cast(stems)
        table = pa.table([made.get(field.name, pa.nulls(rows, field.type)) for field in JOURNAL], JOURNAL)
        folder = tmp_path / "out/_sep/journal"
        folder.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, folder / f"{run:06d}-aaaa-000000.parquet", row_group_size=500)
    return str(tmp_path / "out")


def test_an_index_of_more_than_the_database_has_memory_for_is_published_whole(wide, monkeypatch):
    monkeypatch.setitem(database.DUCKDB, "memory_limit", "40MB")
    monkeypatch.setitem(database.DUCKDB, "threads", 1)
    monkeypatch.setattr(sort_by_id, "ROWS", 500)
    monkeypatch.setattr(sort_by_id, "IDS_A_RANGE", 20)
    with database.opened(wide) as journal, pytest.raises(duckdb.OutOfMemoryException):
        journal.database.sql("FROM newest ORDER BY id").to_arrow_table()
    assert index.publish(wide, "000002-aaaa")
    found = index.read(wide)
    assert found.column("id").to_pylist() == [f"t{number:05d}" for number in range(4_000)]
    assert found.column("error").equals(found.column("id"))
    assert set(found.column("run_id").to_pylist()) == {"000002-aaaa"}
    assert pyarrow.parquet.ParquetFile(f"{wide}/index.parquet").num_row_groups > 8
