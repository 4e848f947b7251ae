"""Columns that several manifests have by one name: no value is lost, and a group is the same text whatever its type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
from export_outs import wave, write_out

from sep_batch.jobs.export.export import run_export
from sep_batch.pipeline.out import column_types, index
from sep_batch.pipeline.out.journal import Journal
from sep_batch.pipeline.rows import EXTRA, JOURNAL

BIG = (1 << 60) + 1  # no double is this number


def published(out, *columns):
    """Publish an index of one track for each column, each from a run with a manifest of its own."""
    for number, column in enumerate(columns):
        rows = pa.Table.from_pylist([{"id": f"t{number}", "uri": f"/{number}.wav", "status": "ok"}], schema=JOURNAL)
        extra = pa.StructArray.from_arrays([column], names=["year" if number % 2 else "Year"])
        with Journal(out, run := f"{number:06d}-aaaa", check=lambda: None) as journal:
            journal.add(rows.append_column(EXTRA, extra))
    index.publish(out, run)
    table = index.read(out)
    (name,) = (name for name in table.column_names if name.lower() == "year")
    return table.column(name)


@pytest.mark.parametrize(
    ("columns", "kind", "values"),
    [
        ([pa.array([BIG]), pa.array([1970.0])], pa.int64(), [BIG, 1970]),
        ([pa.array([BIG]), pa.array([float("nan")])], pa.int64(), [BIG, None]),
        ([pa.array([1970], pa.int16()), pa.array([None], pa.float64())], pa.int64(), [1970, None]),
        ([pa.array([1970]), pa.array([1970.5])], pa.float64(), [1970.0, 1970.5]),
        ([pa.array([BIG]), pa.array([1970.5]), pa.array([1970.0])], pa.string(), [str(BIG), "1970.5", "1970"]),
        ([pa.array([1970]), pa.array(["x"]), pa.array([1970.0])], pa.string(), ["1970", "x", "1970"]),
        ([pa.array([1970.0]), pa.array(["x"]), pa.array([float("nan")])], pa.string(), ["1970", "x", None]),
        ([pa.array([1e300]), pa.array([1])], pa.float64(), [1e300, 1.0]),
        (
            [pa.array([dt.timedelta(seconds=2)], pa.duration(unit)) for unit in ("ns", "us", "ms", "s")],  # as journals of before
            pa.int64(),
            [2_000_000] * 4,
        ),
    ],
)
def test_a_column_of_several_types_loses_no_value(tmp_path, columns, kind, values):
    found = published(str(tmp_path / "out"), *columns)
    assert (found.type, found.to_pylist()) == (kind, values)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (1970, pa.int16(), "1970"),
        (1970.0, pa.float64(), "1970"),
        (1970.0, pa.float32(), "1970"),
        (-0.0, pa.float64(), "0"),
        (0.5, pa.float32(), "0.5"),
        (1e300, pa.float64(), "1e+300"),
        (float("nan"), pa.float64(), None),
        (float("inf"), pa.float64(), "inf"),
        (BIG, pa.int64(), str(BIG)),
        (Decimal("1.10"), pa.decimal128(9, 2), "1.1"),
        (Decimal("10.00"), pa.decimal128(9, 2), "10"),
        (Decimal(100), pa.decimal128(9, 0), "100"),
        ("1970.0", pa.string(), "1970.0"),
        (True, pa.bool_(), "true"),
        (None, pa.float64(), None),
    ],
)
def test_a_value_is_the_same_text_whatever_its_type(tmp_path, value, kind, text):
    pyarrow.parquet.write_table(pa.table({'o"dd': pa.array([value], kind)}), tmp_path / "t.parquet")
    sql = column_types.as_text(column_types.quoted('o"dd'), kind)
    assert duckdb.sql(f"SELECT {sql} FROM '{tmp_path}/t.parquet'").fetchall() == [(text,)]


def splits_of(out, dest, **options):
    """Return the split that each track falls in."""
    run_export(out, str(dest), to="parquet", split="0.5/0.5", group_by="year", **options)
    files = dest.glob("*/*.parquet")
    return {name: path.parent.name for path in files for name in pyarrow.parquet.read_table(path).column("id").to_pylist()}


def test_a_later_manifest_that_makes_doubles_of_integers_changes_no_split(inline_export, tmp_path):
    short = {"vocals": wave("x")}
    years = {f"t{number}": 1960 + number // 2 for number in range(16)} | {"big": BIG, "next": BIG + 1}
    write_out(str(tmp_path / "old"), dict.fromkeys(years, short), extra={name: {"year": year} for name, year in years.items()})
    before = splits_of(str(tmp_path / "old"), tmp_path / "before")
    later = {name: {"year": float(year)} for name, year in years.items() if year < BIG} | {"half": {"year": 1970.5}}
    write_out(str(tmp_path / "new"), dict.fromkeys(later, short), extra=later)
    after = splits_of(str(tmp_path / "new"), tmp_path / "after")
    assert {after[name] for name in after} == {"train", "test"}
    assert {name: after[name] for name in later if name != "half"} == {name: before[name] for name in later if name != "half"}


def test_tracks_whose_group_is_nan_are_each_by_themselves(inline_export, tmp_path):
    tracks = {f"t{number}": {"vocals": wave("x")} for number in range(12)}
    write_out(str(tmp_path / "out"), tracks, extra={name: {"year": float("nan")} for name in tracks})
    assert set(splits_of(str(tmp_path / "out"), tmp_path / "d").values()) == {"train", "test"}
