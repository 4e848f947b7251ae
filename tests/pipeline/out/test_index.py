from __future__ import annotations

import datetime as dt
import io
import threading
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import finished as newest
from catalogs import without_analysis

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import database, index, journal, layout
from sep_batch.pipeline.out.journal import Journal, new_run
from sep_batch.pipeline.rows import EXTRA, JOURNAL, PART, STEM, TRACK, fill
from sep_batch.pipeline.storage import uris

RUN = "000001-aaaa"
FINISHED_AT = dt.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=dt.UTC)
STEMS = [
    {
        "stem": stem,
        "uri": f"stems/ab/x/{stem}.flac",
        "codec": "flac",
        "bytes": 1234,
        "sha256": "f" * 64,
        "frames": 44_100,
        "peak_dbfs": -1.5,
        "rms_dbfs": -20.25,
        "lufs": None,
        "clipped_samples": 3,
        "levels_dbfs": [-20, -100],
        "active_ratio": 0.5,
        "active_regions": [{"start_s": 0.0, "end_s": 0.5}],
        "width": 0.25,
        "sample_rate_hz": 44_100,
        "channels": 2,
    }
    for stem in ("vocals", "accompaniment")
]


@pytest.fixture
def out(tmp_path):
    return str(tmp_path / "out")


def finished(id, *, extra=None, **values):
    """Return a finished row as Write hands it out."""
    track = {"id": id, "uri": f"/music/{id}.wav", "offset_s": None, "duration_s": None, "source_etag": None, "attempts": 1}
    row = pa.Table.from_pylist([track], schema=TRACK)
    if extra is not None:
        row = row.append_column(EXTRA, pa.array([extra]) if isinstance(extra, dict) else extra)
    usual = {"status": "ok", "settings_sha256": "s", "transient": False, "finished_at": FINISHED_AT, "run_id": RUN}
    return fill(row, JOURNAL, **usual | {"stems": STEMS} | values)


def held():
    """Check a lease that nobody has taken over."""


def journalled(out, *files, run=RUN):
    """Write a run's journal, a file for each list of rows."""
    with Journal(out, run, check=held) as journal:
        for rows in files:
            for row in rows:
                journal.add(row)
            journal.flush()


def published(out):
    assert index.publish(out, RUN)
    return index.read(out)


def journal_files(out):
    return [uris.name(found.uri) for found in storage.find(layout.journal_folder(out))]


def test_a_row_that_was_added_is_in_the_index(out):
    journalled(out, [finished("x")])
    (row,) = published(out).to_pylist()
    assert row["id"] == "x"
    assert row["stems"] == STEMS
    assert row["finished_at"] == FINISHED_AT


def test_the_index_has_the_columns_and_the_types_of_the_journal_and_its_version(out):
    journalled(out, [finished("x", status="failed", stems=None)])
    schema = published(out).schema
    assert schema.names == JOURNAL.names
    assert {field.name: field.type for field in schema if field.name != "stems"} == {
        field.name: field.type for field in JOURNAL if field.name != "stems"
    }
    stem = schema.field("stems").type.value_type
    assert {field.name: field.type for field in stem} == {
        field.name: field.type for field in JOURNAL.field("stems").type.value_type
    }
    assert schema.metadata[b"sep_batch_schema"] == b"1"


def test_the_newest_row_wins_across_runs(out):
    journalled(out, [finished("x", error="first"), finished("y", error="first")], run="000001-ffff")
    journalled(out, [finished("x", error="second")], run="000002-0000")
    assert {row["id"]: row["error"] for row in published(out).to_pylist()} == {"x": "second", "y": "first"}


def test_the_newest_row_wins_across_files_and_within_a_file(out):
    journalled(
        out, [finished("x", error="first"), finished("y", error="first")], [finished("x", error="2"), finished("x", error="3")]
    )
    assert {row["id"]: row["error"] for row in published(out).to_pylist()} == {"x": "3", "y": "first"}


def test_the_newest_row_is_not_the_one_of_the_latest_clock(out):
    later = FINISHED_AT + dt.timedelta(days=9)
    journalled(out, [finished("x", error="old", finished_at=later)], run="000001-ffff")
    journalled(out, [finished("x", error="new")], run="000002-0000")
    assert published(out).column("error").to_pylist() == ["new"]


def test_the_index_is_ordered_by_id_and_the_same_whatever_the_order_of_the_rows(out, tmp_path):
    ids = ["b", "a", "C", "10", "9", "_", "a-b"]
    journalled(out, [finished(id) for id in ids])
    journalled(other := str(tmp_path / "other"), [finished(id) for id in reversed(ids)])
    assert published(out).column("id").to_pylist() == sorted(ids)
    assert published(out).equals(published(other))


def test_publishing_again_replaces_the_index(out):
    journalled(out, [finished("x")], run="000001-aaaa")
    assert published(out).num_rows == 1
    journalled(out, [finished("y")], run="000002-aaaa")
    assert published(out).num_rows == 2


def test_without_a_journal_there_is_no_index(out):
    assert not index.publish(out, RUN)
    assert newest(out) == {}
    with pytest.raises(errors.NotFound):
        index.read(out)


def test_an_older_journal_without_a_column_reads_on_with_nulls(out):
    journalled(out, [finished("x", lufs=None)], run="000002-aaaa")
    old = finished("old").drop_columns(["above_f_db", "transient", "attempts"])
    path = f"{layout.journal_folder(out)}/000001-aaaa-000000.parquet"
    pyarrow.parquet.write_table(old, path)
    first, second = published(out).to_pylist()
    assert (first["id"], first["above_f_db"], first["attempts"]) == ("old", None, None)
    assert (second["id"], second["attempts"]) == ("x", 1)
    assert (newest(out)["old"].status, newest(out)["old"].transient) == ("ok", None)


def test_further_columns_of_two_manifests_are_united(out):
    journalled(out, [finished("x", extra={"genre": "rock"})], run="000001-aaaa")
    journalled(out, [finished("y", extra={"year": 1999}), finished("z")], run="000002-aaaa")
    rows = published(out).to_pylist()
    assert [(row["id"], row["genre"], row["year"]) for row in rows] == [("x", "rock", None), ("y", None, 1999), ("z", None, None)]


def test_further_columns_keep_their_types(out):
    extra = pa.StructArray.from_arrays(
        [pa.array([["x", "y"]]), pa.array([7], pa.int16()), pa.array([True]), pa.array([{"a": 1.5}])],
        names=["tags", "year", "live", "deep"],
    )
    journalled(out, [finished("x", extra=extra)])
    table = published(out)
    assert table.schema.field("year").type == pa.int16()
    (row,) = table.to_pylist()
    assert (row["tags"], row["live"], row["deep"]) == (["x", "y"], True, {"a": 1.5})


@pytest.mark.parametrize("name", ["filename", "extra", "payload", "order", "genre name", 'quo"te', "Genre"])
def test_a_further_column_may_have_any_name(out, name):
    journalled(out, [finished("x", extra={name: "mine", "genre": "rock"} if name != "Genre" else {name: "mine"})])
    (row,) = published(out).to_pylist()
    assert row[name] == "mine"
    assert set(newest(out)) == {"x"}


def test_further_columns_of_one_manifest_that_differ_only_in_case_both_stay(out):
    journalled(out, [finished("x", extra={"Genre": "rock", "genre": "jazz"})])
    (row,) = published(out).to_pylist()
    assert sorted(found for name, found in row.items() if name.lower().startswith("genre")) == ["jazz", "rock"]


def test_further_columns_of_two_manifests_that_differ_only_in_case_are_one(out):
    journalled(out, [finished("x", extra={"Genre": "rock"})], run="000001-aaaa")
    journalled(out, [finished("y", extra={"genre": "jazz"})], run="000002-aaaa")
    table = published(out)
    (name,) = [name for name in table.column_names if name.lower() == "genre"]
    assert table.column(name).to_pylist() == ["rock", "jazz"]


@pytest.mark.parametrize("name", ["out [2024]", "out*", "o'ut", "out ?", "\u00e9t\u00e9", "a b"])
def test_out_may_have_any_name(tmp_path, name):
    out = str(tmp_path / name)
    journalled(out, [finished("x")])
    assert published(out).column("id").to_pylist() == ["x"]
    assert set(newest(out)) == {"x"}


def test_a_journal_may_lie_in_remote_storage():
    out = "memory://journal-test/out"
    journalled(out, [finished("x", error="1")], [finished("x", error="2")])
    assert published(out).column("error").to_pylist() == ["2"]
    assert new_run(out).startswith("000002-")


def test_what_is_finished_is_what_the_newest_rows_say(out):
    journalled(
        out,
        [
            finished("x"),
            finished("y", status="failed", transient=True, attempts=2, settings_sha256="t", source_etag="e", offset_s=1.5),
        ],
    )
    found = newest(out)
    assert (set(found), found["x"].status, found["y"].status) == ({"x", "y"}, "ok", "failed")
    assert (found["y"].transient, found["y"].attempts, found["y"].source_etag, found["y"].offset_s) == (True, 2, "e", 1.5)


TORN = {
    "cut": lambda content: content[:-100],
    "empty": lambda _content: b"",
    "flipped": lambda content: content[:200] + bytes(byte ^ 255 for byte in content[200:300]) + content[300:],
    "no journal": lambda _content: parquet_of(y=[1]),
    "ids of numbers": lambda _content: parquet_of(id=[1, 2]),
    "stems of text": lambda _content: parquet_of(id=["a"], status=["ok"], stems=["x"]),
    "time of text": lambda _content: parquet_of(id=["a"], finished_at=["now"]),
}


def parquet_of(**columns):
    content = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), content)
    return content.getvalue()


@pytest.mark.parametrize("torn", TORN)
@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_a_journal_file_that_cannot_be_read_is_named_and_the_others_are_read(torn, kind, tmp_path):
    out = {"disk": str(tmp_path / "out"), "memory": f"memory://torn-{torn}/out"}[kind]
    journalled(out, [finished("x")], [finished("y")])
    uri = f"{layout.journal_folder(out)}/{RUN}-000001.parquet"
    storage.put(uri, TORN[torn](storage.read(uri)))
    with database.opened(out, skip_unreadable=True) as journal:
        assert list(journal.unreadable) == [uri]
        assert (journal.files, journal.database.sql("SELECT id FROM newest").fetchall()) == (1, [("x",)])


@pytest.mark.parametrize("torn", TORN)
def test_a_run_does_not_go_on_without_a_journal_file_that_cannot_be_read(torn, out):
    journalled(out, [finished("x")], [finished("y")])
    uri = f"{layout.journal_folder(out)}/{RUN}-000001.parquet"
    storage.put(uri, TORN[torn](storage.read(uri)))
    for call in (newest, lambda out: index.publish(out, RUN)):
        with pytest.raises(errors.NotRunnableError, match="journal .*000001.parquet: .*; sep-batch verify"):
            call(out)


def test_run_names_count_up(out):
    assert new_run(out).startswith("000001-")
    journalled(out, [finished("x")], run="000009-ffff")
    journalled(out, [finished("x")], run="000002-0000")
    name = new_run(out)
    assert name.startswith("000010-")
    assert len(name) == len("000010-ffff")
    assert len({new_run(out) for _ in range(20)}) > 1


def test_a_stray_file_beside_the_journal_does_not_stop_a_run(out):
    journalled(out, [finished("x")])
    for name in (".DS_Store", "@eaDir/000001-aaaa-000000.parquet", "000001-bbbb-000000.parquet/x"):
        storage.put(f"{layout.journal_folder(out)}/{name}", b"x")
    assert new_run(out).startswith("000002-")
    assert published(out).num_rows == 1


def test_rows_are_flushed_at_the_end_and_nothing_else_is_left(out, tmp_path):
    with Journal(out, RUN, check=held) as journal:
        journal.add(finished("x"))
        assert journal_files(out) == []
    assert journal_files(out) == [f"{RUN}-000000.parquet"]
    assert not list(tmp_path.rglob("*.part"))


def test_rows_are_flushed_where_a_run_breaks_off(out):
    def breaks_off():
        with Journal(out, RUN, check=held) as journal:
            journal.add(finished("x"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaks_off()
    assert set(newest(out)) == {"x"}


def test_rows_are_flushed_where_there_are_many(out, monkeypatch):
    monkeypatch.setattr(journal, "FLUSH_ROWS", 3)
    with Journal(out, RUN, check=held) as taking:
        for number in range(7):
            taking.add(finished(f"x{number}"))
        assert journal_files(out) == [f"{RUN}-000000.parquet", f"{RUN}-000001.parquet"]
    assert len(journal_files(out)) == 3
    assert len(newest(out)) == 7


def test_rows_are_flushed_after_a_while_though_no_more_come(out):
    with Journal(out, RUN, check=held, flush_s=0.02) as journal:
        journal.add(finished("x"))
        for _ in range(100):
            if journal_files(out):
                break
            time.sleep(0.01)
        assert set(newest(out)) == {"x"}


def test_a_journal_whose_run_may_write_no_more_writes_no_more(out):
    def taken_over():
        raise errors.LeaseHeldError

    def writes_on():
        with Journal(out, RUN, check=taken_over) as journal:
            journal.add(finished("x"))

    with pytest.raises(errors.LeaseHeldError):
        writes_on()
    assert journal_files(out) == []


def test_a_journal_without_rows_writes_nothing(out):
    with Journal(out, RUN, check=held, flush_s=0.001) as journal:
        journal.flush()
    assert journal_files(out) == []


def test_rows_that_storage_did_not_take_are_kept_and_the_run_is_told(out, monkeypatch):
    real, broken = storage.put, threading.Event()

    def put(*args, **options):
        if broken.is_set():
            raise errors.WriteFailed("storage is away")
        real(*args, **options)

    monkeypatch.setattr(storage, "put", put)
    broken.set()
    with Journal(out, RUN, check=held, flush_s=0.01) as journal:
        journal.add(finished("x"))
        journal._thread.join(timeout=5)
        with pytest.raises(errors.WriteFailed):
            journal.add(finished("y"))
        broken.clear()
    assert set(newest(out)) == {"x"}


def test_the_payload_of_a_row_is_not_in_the_journal(out):
    row = fill(finished("x"), PART, part=0, last=True)
    journalled(out, [row])
    assert pyarrow.parquet.read_schema(f"{layout.journal_folder(out)}/{RUN}-000000.parquet").names == JOURNAL.names


def test_the_index_is_read_by_pyarrow_pandas_and_duckdb_alike(out):
    journalled(
        out,
        [finished("x", extra={"genre": "rock"}, audio_s=1.5), finished("y", status="failed", stems=None, extra={"genre": None})],
    )
    table, path = published(out), f"{out}/{layout.INDEX_FILE}"
    frame = pd.read_parquet(path)
    assert frame["id"].tolist() == ["x", "y"]
    assert frame["genre"].tolist()[0] == "rock"
    assert [stem["stem"] for stem in frame["stems"][0]] == ["vocals", "accompaniment"]
    assert frame["finished_at"][0].to_pydatetime() == FINISHED_AT
    query = f"SELECT id, s.stem, s.frames, s.clipped_samples FROM (SELECT id, unnest(stems) AS s FROM '{path}') ORDER BY s.stem"
    assert duckdb.sql(query).fetchall() == [("x", "accompaniment", 44_100, 3), ("x", "vocals", 44_100, 3)]
    assert duckdb.sql(f"SELECT count(*), sum(audio_s) FROM '{path}'").fetchall() == [(2, 1.5)]
    assert table.column("stems").to_pylist() == [STEMS, None]


ADDED = ("levels_dbfs", "active_ratio", "active_regions", "width", "sample_rate_hz", "channels")


@pytest.mark.parametrize("newer", [[], ["y"], ["x", "y"]], ids=["alone", "beside newer rows", "under newer rows"])
@pytest.mark.parametrize("extra", [("a", "b"), (1, "b")], ids=["one manifest", "manifests that clash"])
def test_a_journal_from_before_stems_were_analysed_reads_on_with_nulls(out, newer, extra):
    journalled(out, [finished("x", extra={"a": extra[0]}), finished("z", status="failed", stems=None)])
    without_analysis(f"{layout.journal_folder(out)}/{RUN}-000000.parquet")
    journalled(out, [finished(id, extra={"a": extra[1]}) for id in newer], run="000002-aaaa")
    table = published(out)
    assert table.schema.field("stems").type.value_type.num_fields == STEM.num_fields
    found = {row["id"]: row["stems"] for row in table.to_pylist()}
    old = [stem | dict.fromkeys(ADDED) for stem in STEMS]
    assert found == {"x": old, "z": None} | dict.fromkeys(newer, STEMS)
    assert set(newest(out)) == {"x", "z", *newer}


@pytest.mark.parametrize(
    ("first", "second", "read"),
    [
        ({"a": 1}, "x", ["{'a': 1}", "x"]),
        ([1, 2], "x", ["[1, 2]", "x"]),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), 3, ["2026-01-02 00:00:00+00", "3"]),
        (1, 2.5, [1.0, 2.5]),
        (None, "x", [None, "x"]),
    ],
)
def test_a_column_that_two_manifests_type_differently_is_published_as_text_or_number(out, first, second, read):
    for number, (name, kind) in enumerate((("a", first), ("b", second)), start=1):
        journalled(out, [finished(name, extra={'my "own"': kind})], run=f"00000{number}-aaaa")
    assert index.publish(out, "000002-aaaa")
    assert index.read(out).column('my "own"').to_pylist() == read
    assert set(newest(out)) == {"a", "b"}


def test_a_large_file_in_object_storage_is_copied_range_by_range(s3, tmp_path, monkeypatch):
    content = bytes(range(256)) * 1000
    storage.put(f"{s3}/large/index.parquet", content)
    monkeypatch.setattr(storage.reading, "WHOLE_READ_BYTES", 1000)
    for module in (storage, storage.reading):
        monkeypatch.setattr(module, "RANGE_BYTES", 30_000)
    read, sizes = storage.Ranges.read, []
    monkeypatch.setattr(storage.Ranges, "read", lambda self, size=-1: sizes.append(size) or read(self, size))
    path = database.here(f"{s3}/large/index.parquet", tmp_path)
    assert Path(path).read_bytes() == content
    assert set(sizes) == {30_000}
