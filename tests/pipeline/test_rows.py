from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sep_batch.pipeline import rows
from sep_batch.pipeline.rows import EXTRA, JOURNAL, PART, PAYLOAD, PLACE, RESULT, TRACK, fill, payload, value


def track(id="x", **values):
    usual = {"id": id, "uri": f"/music/{id}.wav", "offset_s": 1.5, "duration_s": None, "source_etag": None, "attempts": 0}
    return pa.Table.from_pylist([usual | values], schema=TRACK)


def with_extra(row, **values):
    return row.append_column(EXTRA, pa.array([values]))


def part(id="x", array=None):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4) if array is None else array
    return fill(track(id), PART, payload=array, part=0, last=True, skip=0, samples=4)


def test_a_row_is_filled_to_its_schema_with_what_it_held_and_the_rest_null():
    filled = fill(track(), JOURNAL, status="ok", parts=1)
    assert filled.schema.equals(JOURNAL)
    (values,) = filled.to_pylist()
    assert {name: found for name, found in values.items() if found is not None} == {
        "id": "x",
        "uri": "/music/x.wav",
        "offset_s": 1.5,
        "attempts": 0,
        "status": "ok",
        "parts": 1,
    }


def test_what_is_given_takes_the_place_of_what_a_row_held():
    filled = fill(track(), PART, attempts=2, offset_s=None)
    assert value(filled, "attempts") == 2
    assert value(filled, "offset_s") is None
    assert value(filled, "id") == "x"


def test_columns_that_the_schema_has_not_are_dropped_and_the_manifests_own_are_kept():
    filled = fill(with_extra(part(), genre="rock"), JOURNAL)
    assert filled.column_names == [*JOURNAL.names, EXTRA]
    assert value(filled, EXTRA) == {"genre": "rock"}


@pytest.mark.parametrize(("column", "wrong"), [("attempts", "many"), ("status", 3), ("stems", "none")])
def test_a_value_of_another_type_is_refused(column, wrong):
    with pytest.raises(pa.ArrowException):
        fill(track(), JOURNAL, **{column: wrong})


@pytest.mark.parametrize("shape", [(2, 3, 4), (1,), (1, 2, 512, 8, 2), (0,), (2, 0, 3)])
def test_a_payload_comes_back_as_it_went_in(shape):
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = payload(part(array=array))
    assert found.shape == shape
    assert found.dtype == np.float32
    assert np.array_equal(found, array)


def test_a_payload_is_not_copied_on_its_way_in_nor_out_nor_can_it_be_written_to():
    array = np.arange(1000, dtype=np.float32)
    found = payload(part(array=array))
    assert np.shares_memory(found, array)
    assert not found.flags.writeable


def test_a_payload_that_is_not_laid_out_row_by_row_comes_back_right():
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T[:, ::2]
    assert np.array_equal(payload(part(array=array)), array)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.complex64])
def test_a_payload_keeps_its_type(dtype):
    drawn = np.arange(24).reshape(2, 3, 4).astype(dtype)
    found = payload(part(array=drawn))
    assert found.dtype == dtype
    assert np.array_equal(found, drawn)


def test_rows_of_a_block_keep_their_own_payloads():
    arrays = [np.full((2, n), n, np.float32) for n in (1, 5, 3)]
    block = pa.concat_tables([part(str(n), array) for n, array in enumerate(arrays)]).combine_chunks()
    found = list(rows.each(block))
    assert [value(row, "id") for row in found] == ["0", "1", "2"]
    assert all(np.array_equal(payload(row), array) for row, array in zip(found, arrays, strict=True))


def test_ok_and_failed_rows_are_one_block():
    failed = fill(track("bad"), PART, status="failed", error="reason", payload=np.empty(0, np.float32))
    block = pa.concat_tables([part("good"), failed, part("good too")]).combine_chunks()
    assert block.schema.equals(PART)
    assert block.column("status").to_pylist() == [None, "failed", None]
    assert [payload(row).size for row in rows.each(block)] == [24, 0, 24]


def test_a_payload_survives_being_sent_to_another_process():
    array = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    sink = pa.BufferOutputStream()
    block = with_extra(part(array=array), genre="rock")
    with pa.ipc.new_stream(sink, block.schema) as writer:
        writer.write_table(block)
    received = pa.ipc.open_stream(sink.getvalue()).read_all()
    assert np.array_equal(payload(received), array)
    assert value(received, EXTRA) == {"genre": "rock"}


def test_the_journal_holds_the_manifests_own_columns_beside_ours_and_no_payload():
    table = rows.journal_table(with_extra(part(), genre="rock", year=1999))
    assert table.column_names == [*JOURNAL.names, "genre", "year"]
    assert table.column("year").to_pylist() == [1999]
    assert table.schema.metadata == {rows.SCHEMA_KEY: b"1"}


def test_the_journal_of_a_manifest_without_further_columns_is_ours_alone():
    assert rows.journal_table(fill(track(), JOURNAL)).schema.equals(JOURNAL, check_metadata=True)


def test_no_column_has_two_meanings():
    names = [*TRACK.names, *RESULT.names, *PLACE.names, *PAYLOAD.names, EXTRA]
    assert len(set(names)) == len(names)
