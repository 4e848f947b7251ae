"""A folder of Parquet, CSV or JSONL files is one manifest: as Spark, Ray Data, pandas and others write them."""

from __future__ import annotations

import io
import json
import secrets

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import lists, scan, table_folder
from sep_batch.pipeline.rows import EXTRA

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@pytest.fixture(params=["disk", "memory", "s3"])
def anywhere(request, tmp_path):
    """A folder of each kind of storage."""
    if request.param == "s3":
        return f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    return str(tmp_path) if request.param == "disk" else f"memory://{secrets.token_hex(4)}"


def put(uri, columns):
    """Write a file of these columns, as its extension says."""
    table, out = pa.table(columns), io.BytesIO()
    if uri.endswith((".parquet", ".pq")):
        pyarrow.parquet.write_table(table, out)
    elif uri.endswith(".csv"):
        pa.csv.write_csv(table, out)
    else:
        out.writelines(f"{json.dumps(row)}\n".encode() for row in table.to_pylist())
    storage.put(uri, out.getvalue())
    return uri


def put_all(folder, files):
    for name, columns in files.items():
        put(f"{folder}/{name}", columns)
    return str(folder)


def names(read):
    return [uri.rpartition("/")[2] for uri in read.tracks.column("uri").to_pylist()]


def extra(read):
    return read.tracks.column(EXTRA).to_pylist()


def types(read):
    return {field.name: field.type for field in read.tracks.schema.field(EXTRA).type}


def refusal(uri, **options):
    with pytest.raises(errors.ManifestError) as caught:
        manifest.read(str(uri), **options)
    return str(caught.value)


HIVE = {
    "genre=rock/year=1999/part-0.parquet": {"uri": ["a.wav", "b.wav"]},
    "genre=R%26B %2F soul/year=2001/part-0.parquet": {"uri": ["c.wav"]},
    f"genre={HIVE_NULL}/year={HIVE_NULL}/part-0.parquet": {"uri": ["d.wav"]},
}


def test_two_levels_of_hive_partitions_are_two_columns(anywhere):
    put_all(f"{anywhere}/songs", HIVE)
    for name in ("_SUCCESS", "_metadata", "genre=rock/.part-0.parquet.crc", "genre=rock/_committed_17"):
        storage.put(f"{anywhere}/songs/{name}", b"x")
    read = manifest.read(f"{anywhere}/songs")
    rows = dict(zip(names(read), extra(read), strict=True))
    assert rows == {
        "a.wav": {"genre": "rock", "year": 1999},
        "b.wav": {"genre": "rock", "year": 1999},
        "c.wav": {"genre": "R&B / soul", "year": 2001},
        "d.wav": {"genre": None, "year": None},
    }
    assert names(read) == ["c.wav", "d.wav", "a.wav", "b.wav"]  # in the order of the files' names
    assert types(read) == {"genre": pa.string(), "year": pa.int64()}
    assert read.tracks.column("uri")[2].as_py() == f"{anywhere}/songs/a.wav"
    assert read.kind == "manifest"
    assert read.warnings == ("left out: 3 other files (no extension 3)",)


def test_a_folder_in_a_list_of_sources_is_a_list(anywhere):
    put_all(f"{anywhere}/songs", HIVE)
    storage.put(f"{anywhere}/music/x.flac", b"x")
    found = scan.scan([f"{anywhere}/songs", f"{anywhere}/music"]).table
    assert found.column("genre").to_pylist() == ["R&B / soul", None, "rock", "rock", None]
    assert found.column("uri").to_pylist()[-1] == f"{anywhere}/music/x.flac"


@pytest.mark.parametrize("extension", ["parquet", "csv", "jsonl"])
def test_files_of_each_kind_are_read_in_the_order_of_their_names(anywhere, extension):
    parts = {f"part-{n:05}.{extension}": {"uri": [f"{n}.wav"], "id": [f"00{n}"], "n": [n]} for n in (2, 0, 1)}
    read = manifest.read(put_all(f"{anywhere}/songs", parts))
    assert read.tracks.column("id").to_pylist() == ["000", "001", "002"]
    assert extra(read) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("name", ["songs.parquet", "songs.csv", "Songs.JSONL"])
def test_a_folder_named_like_a_file_stands_for_that_file(anywhere, name):
    extension = name.rpartition(".")[2].lower()
    put_all(f"{anywhere}/{name}", {f"0.{extension}": {"uri": ["music/a.wav"]}})
    assert manifest.read(f"{anywhere}/{name}/").tracks.column("uri").to_pylist() == [f"{anywhere}/music/a.wav"]
    (found,) = scan.scan([f"{anywhere}/{name}"]).table.column("uri").to_pylist()
    assert found == f"{anywhere}/music/a.wav"


def test_what_pandas_writes_is_read(tmp_path):
    rows = {"uri": ["a.wav", "b.wav", "c.wav"], "genre": ["rock", "R&B é", None], "year": [1999, 2001, 2001]}
    pd.DataFrame(rows).to_parquet(tmp_path / "songs.parquet", partition_cols=["genre", "year"])
    read = manifest.read(str(tmp_path / "songs.parquet"))
    assert sorted(zip(names(read), [tuple(row.values()) for row in extra(read)], strict=True)) == [
        ("a.wav", ("rock", 1999)),
        ("b.wav", ("R&B é", 2001)),
        ("c.wav", (None, 2001)),
    ]


def test_what_ray_data_and_spark_call_their_files_is_read(tmp_path):
    put_all(
        tmp_path / "ray",
        {
            "genre=rock/2_000000_000000.parquet": {"uri": ["a.wav"]},
            "genre=jazz/17e1f0-000001_000000.parquet": {"uri": ["b.wav"]},
        },
    )
    put_all(tmp_path / "spark", {"part-00000-6b1e5bd5-c000.snappy.parquet": {"uri": ["a.wav"]}})
    assert extra(manifest.read(str(tmp_path / "ray"))) == [{"genre": "jazz"}, {"genre": "rock"}]
    assert names(manifest.read(str(tmp_path / "spark"))) == ["a.wav"]


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        (["1", "-20", "0"], pa.int64(), [1, -20, 0]),
        (["007", "8"], pa.string(), ["007", "8"]),
        (["1", "1.5"], pa.string(), ["1", "1.5"]),
        (["1", "x", "2"], pa.string(), ["1", "x", "2"]),
        ([HIVE_NULL, "3"], pa.int64(), [None, 3]),
        (["9" * 30], pa.string(), ["9" * 30]),
    ],
)
def test_a_partition_is_a_number_where_all_its_values_are(tmp_path, values, kind, read):
    put_all(tmp_path, {f"{place}/k={value}/p.parquet": {"uri": [f"{place}.wav"]} for place, value in enumerate(values)})
    found = manifest.read(str(tmp_path))
    assert types(found)["k"] == kind
    assert [row["k"] for row in extra(found)] == read


def test_partitions_may_be_a_manifests_own_columns(tmp_path):
    put_all(tmp_path, {"offset_s=1.5/id=007/p.parquet": {"uri": ["a.wav"]}})
    (row,) = manifest.read(str(tmp_path)).tracks.to_pylist()
    assert (row["id"], row["offset_s"]) == ("007", 1.5)


@pytest.mark.parametrize("own", [["rock"], pa.array(["rock"]).dictionary_encode()])
def test_a_column_that_a_file_has_itself_stays_where_its_folder_says_the_same(tmp_path, own):
    put_all(tmp_path, {"genre=rock/p.parquet": {"uri": ["a.wav"], "genre": own}, "genre=jazz/p.parquet": {"uri": ["b.wav"]}})
    assert extra(manifest.read(str(tmp_path))) == [{"genre": "jazz"}, {"genre": "rock"}]


@pytest.mark.parametrize(
    ("folder", "own"), [("genre=rock", ["jazz"]), ("genre=rock", [None]), (f"genre={HIVE_NULL}", ["x"]), ("genre=x", [3])]
)
def test_a_file_that_says_something_else_than_its_folder_is_refused(tmp_path, folder, own):
    put_all(tmp_path, {f"{folder}/p.parquet": {"uri": ["a.wav"], "genre": own}})
    assert f"{folder}/p.parquet: column genre differs from its folder {folder}" in refusal(tmp_path)


def test_what_a_file_lacks_is_null_and_numbers_are_promoted(tmp_path):
    put_all(
        tmp_path,
        {
            "0.parquet": {"uri": ["a.wav"], "n": [1], "tag": pa.array(["x"]).dictionary_encode()},
            "1.parquet": {"uri": pa.array(["b.wav"], pa.large_string()), "n": [1.5], "tag": ["y"], "late": [True]},
            "2.parquet": {"uri": pa.array([], pa.string()), "n": pa.array([], pa.string())},
            "3.parquet": {"uri": ["c.wav"], "n": pa.nulls(1)},
        },
    )
    read = manifest.read(str(tmp_path))
    assert extra(read) == [
        {"n": 1.0, "tag": "x", "late": None},
        {"n": 1.5, "tag": "y", "late": True},
        {"n": None, "tag": None, "late": None},
    ]
    assert types(read) == {"n": pa.float64(), "tag": pa.string(), "late": pa.bool_()}


def test_an_empty_file_among_others_says_nothing_of_their_columns(tmp_path):
    put_all(tmp_path, {"1.jsonl": {"path": ["a.wav"]}})
    (tmp_path / "0.jsonl").touch()
    assert names(manifest.read(str(tmp_path))) == ["a.wav"]


@pytest.mark.parametrize(
    ("extension", "one", "other", "named"),
    [
        ("parquet", [1], ["x"], "found int64 in 0.parquet and string in 1.parquet"),
        ("jsonl", [1], ["x"], "found int64 in 0.jsonl and string in 1.jsonl"),
        ("parquet", [2**60 + 1], [1.5], "0.parquet: column n: found int64, expected double as in other files"),
    ],
)
def test_types_that_do_not_fit_together_are_refused_with_both_files(tmp_path, extension, one, other, named):
    put_all(tmp_path, {f"0.{extension}": {"uri": ["a.wav"], "n": one}, f"1.{extension}": {"uri": ["b.wav"], "n": other}})
    assert named in refusal(tmp_path)


def test_a_column_of_csv_is_text_in_all_files_where_it_is_in_one(tmp_path):
    (tmp_path / "0.csv").write_text("uri,number\na.wav,007\n")
    (tmp_path / "1.csv").write_text("uri,number\nb.wav,A8\n")
    assert extra(manifest.read(str(tmp_path))) == [{"number": "007"}, {"number": "A8"}]


def test_ids_are_text_though_files_have_them_in_different_types(tmp_path):
    put_all(tmp_path, {"0.parquet": {"uri": ["a.wav"], "id": [7]}, "1.parquet": {"uri": ["b.wav"], "id": ["x"]}})
    assert manifest.read(str(tmp_path)).tracks.column("id").to_pylist() == ["7", "x"]


def test_other_columns_can_be_chosen(tmp_path):
    put_all(tmp_path, {"0.csv": {"file": ["a.wav"], "key": ["x"], "id": ["left"]}})
    read = manifest.read(str(tmp_path), uri_column="file", id_column="key")
    assert (names(read), read.tracks.column("id").to_pylist()) == (["a.wav"], ["x"])


def test_the_sha256_is_of_names_and_contents(tmp_path):
    put_all(tmp_path, {"0.csv": {"uri": ["a.wav"]}, "1.csv": {"uri": ["b.wav"]}})
    first = manifest.read(str(tmp_path)).sha256
    assert manifest.read(str(tmp_path)).sha256 == first
    (tmp_path / "1.csv").rename(tmp_path / "2.csv")
    renamed = manifest.read(str(tmp_path)).sha256
    put(f"{tmp_path}/2.csv", {"uri": ["c.wav"]})
    assert len({first, renamed, manifest.read(str(tmp_path)).sha256}) == 3


def test_many_small_files_are_fetched_at_once_and_large_ones_one_by_one(tmp_path, monkeypatch):
    put_all(tmp_path, {f"{n:03}.csv": {"uri": [f"{n}.wav"]} for n in range(100)})
    expected = [f"{n}.wav" for n in range(100)]
    assert names(manifest.read(str(tmp_path))) == expected
    monkeypatch.setattr(table_folder, "IN_FLIGHT_BYTES", 1)
    monkeypatch.setattr(table_folder, "in_threads", None)
    assert names(manifest.read(str(tmp_path))) == expected


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.csv": b"uri\n1.wav\n", "b.jsonl": b"{}"}, "found files of 2 kinds (a.csv, b.jsonl), expected one kind"),
        ({"a.parquet": b"x"}, "a.parquet: not readable as Parquet"),
        ({"k=1/k=2/a.csv": b"uri\n1.wav\n"}, "k=1/k=2/a.csv: found two folders of k="),
        ({"k=%ff/a.csv": b"uri\n1.wav\n"}, "k=%ff is not UTF-8"),
        ({"a.csv": b"uri,uri\n1.wav,2.wav\n"}, "a.csv: found two columns of one name"),
        ({"a.csv": b"", "b.csv": b""}, "holds no rows"),
        ({"a.csv": b"song\n1.wav\n"}, "no uri column; found song"),
        ({"_delta_log/0.json": b"{}", "a.parquet": b"x"}, "a Delta Lake table, whose log says which of its files count"),
        ({"metadata/v1.metadata.json": b"{}", "data/a.parquet": b"x"}, "an Iceberg table"),
        ({".hoodie/hoodie.properties": b"", "a.parquet": b"x"}, "a Hudi table"),
        ({"_temporary/0/a.csv": b"uri\n1.wav\n"}, "found no audio in "),
        (
            {"a.csv": b"uri,id\n1.wav,x\n2.wav,y\n", "b.csv": b"uri,id\n3.wav,x\n"},
            "row 3 is row 1 of b.csv; row 1 is row 1 of a.csv",
        ),
    ],
)
def test_a_folder_that_is_not_clear_is_refused_in_words(tmp_path, files, said):
    for name, content in files.items():
        storage.put(f"{tmp_path}/{name}", content)
    message = refusal(tmp_path)
    assert said in message
    assert message.isprintable()


def test_files_whose_names_no_uri_may_have_are_refused(tmp_path):
    put_all(tmp_path, {"0.csv": {"uri": ["a.wav"]}})
    (tmp_path / "1\n.csv").write_text("uri\nb.wav\n")
    assert "control characters" in refusal(tmp_path)


def test_too_many_rows_are_refused_over_all_files(tmp_path, monkeypatch):
    put_all(tmp_path, {f"{n}.csv": {"uri": ["a.wav", "b.wav"]} for n in range(3)})
    monkeypatch.setattr(table_folder.parse, "MOST_ROWS", 5)
    assert "2.csv: more than 5 rows up to and including this file" in refusal(tmp_path)


def test_local_sources_of_a_remote_folder_need_an_input_root(tmp_path):
    folder = put_all(f"memory://{secrets.token_hex(4)}", {"0.csv": {"uri": [f"{tmp_path}/a.wav"]}})
    assert "allow its folder by --input-root" in refusal(folder)
    assert names(manifest.read(folder, input_root=str(tmp_path))) == ["a.wav"]


def test_a_folder_with_audio_is_a_listing_whatever_lies_beside_it(tmp_path):
    put_all(tmp_path, {"0.csv": {"uri": ["a.wav"]}})
    (tmp_path / "b.wav").touch()
    assert names(manifest.read(str(tmp_path))) == ["b.wav"]


def test_a_folder_that_is_read_as_a_list_can_be_written_as_one_file(tmp_path):
    put_all(tmp_path / "songs", HIVE)
    lists.write(scan.scan([str(tmp_path / "songs")]).table, str(tmp_path / "one.parquet"))
    one, many = manifest.read(str(tmp_path / "one.parquet")), manifest.read(str(tmp_path / "songs"))
    assert one.tracks.column("id").equals(many.tracks.column("id"))
    assert one.tracks.column("uri").equals(many.tracks.column("uri"))
