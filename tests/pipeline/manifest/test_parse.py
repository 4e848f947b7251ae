from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet
import pytest

from sep_batch.pipeline.manifest import parse


@pytest.mark.parametrize(
    ("kind", "carried"),
    [
        (pa.int16(), pa.int16()),
        (pa.json_(), pa.string()),
        (pa.uuid(), pa.binary(16)),
        (pa.timestamp("s"), pa.timestamp("us")),
        (pa.timestamp("ms", "UTC"), pa.timestamp("us", "UTC")),
        (pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.time32("ms"), None),
        (pa.duration("ms"), pa.int64()),
        (pa.list_(pa.duration("ns")), pa.list_(pa.int64())),
        (pa.decimal256(60), None),
        (pa.month_day_nano_interval(), None),
        (pa.struct([]), None),
        (pa.struct([("a", pa.struct([]))]), None),
        (pa.struct([("a", pa.timestamp("s")), ("b", pa.int8())]), pa.struct([("a", pa.timestamp("us")), ("b", pa.int8())])),
        (pa.list_(pa.uuid()), pa.list_(pa.binary(16))),
        (pa.list_(pa.int8(), 3), pa.list_(pa.int8())),
        (pa.list_view(pa.int8()), pa.list_(pa.int8())),
        (pa.map_(pa.string(), pa.timestamp("s")), pa.map_(pa.string(), pa.timestamp("us"))),
        (pa.map_(pa.string(), pa.struct([])), None),
        (pa.dense_union([pa.field("a", pa.int8())]), None),
        (pa.run_end_encoded(pa.int32(), pa.int8()), None),
        (pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.string())),
        (pa.dictionary(pa.int32(), pa.list_(pa.int8())), None),
    ],
    ids=str,
)
def test_a_column_is_carried_as_what_parquet_and_duckdb_can_hold(kind, carried):
    assert parse.carried(kind) == carried


def test_a_column_may_be_nested_twenty_deep():
    kind = pa.int8()
    for _ in range(parse.DEEPEST):
        kind = pa.list_(kind)
    assert parse.carried(kind) == kind
    assert parse.carried(pa.list_(kind)) is None


def test_a_time_stamp_that_no_calendar_holds_is_not_carried():
    assert parse.carry(pa.chunked_array([pa.array([2**62], pa.timestamp("ms"))])) is None
    assert parse.carry(pa.chunked_array([pa.array([1], pa.timestamp("ms"))])).to_pylist()[0].microsecond == 1000


@pytest.mark.parametrize(("unit", "number"), [("s", 2), ("ms", 2_000), ("us", 2_000_000), ("ns", 2_000_000_999)])
def test_durations_are_carried_as_whole_microseconds_wherever_they_stand(unit, number):
    plain = pa.array([number, None], pa.duration(unit))
    assert parse.carry(pa.chunked_array([plain])).to_pylist() == [2_000_000, None]
    for kind, one, held in (
        (pa.list_(plain.type), [number], [2_000_000]),
        (pa.struct([("a", plain.type)]), {"a": number}, {"a": 2_000_000}),
        (pa.map_(pa.string(), plain.type), [("a", number)], [("a", 2_000_000)]),
    ):
        assert parse.carry(pa.chunked_array([pa.array([one, None], kind)])).to_pylist() == [held, None]


def test_brackets_within_one_line_of_json_may_be_many_but_not_deep():
    flat = b'{"uri": "a.wav", "x": [' + b", ".join([b"{}"] * 1000) + b"]}\n"
    assert parse.parse(".jsonl", flat, []).num_rows == 1
    deep = b'{"x": ' + b"[" * 20 + b"]" * 20 + b"}\n"
    with pytest.raises(parse.UnreadableError, match="not readable as JSONL: line 2 is nested deeper than 20"):
        parse.parse(".jsonl", b'{"x": 1}\n' + deep, [])


def test_a_list_that_begins_with_null_is_refused_since_arrow_reads_it_wrong():
    """Arrow 26 gives such a list one value too few, and reads beyond its end. Where it no longer does, this test can go."""
    with pytest.raises(parse.UnreadableError, match=r"not readable as JSONL: Column 1: .*list offsets"):
        parse.parse(".jsonl", b'{"uri": "a.wav", "x": [null, 1]}\n', [])


def test_rows_that_take_no_room_in_the_file_are_bounded(monkeypatch):
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"uri": ["a.wav"] * 1000}), out)
    assert parse.parse(".parquet", out.getvalue(), []).num_rows == 1000
    monkeypatch.setattr(parse, "MOST_ROWS", 999)
    with pytest.raises(parse.UnreadableError, match="not readable as Parquet: 1,000 rows, expected at most 999"):
        parse.parse(".parquet", out.getvalue(), [])


def test_what_arrow_says_of_a_row_repeats_no_uri_of_it():
    with pytest.raises(parse.UnreadableError, match=r"Expected 1 columns, got 2: \.\.\.$") as refused:
        parse.parse(".csv", b"uri\na.wav\ns3://KEY:hush@b/a.wav,1\n", ["uri"])
    assert "hush" not in str(refused.value)
