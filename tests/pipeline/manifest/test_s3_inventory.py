"""S3 Inventory: what AWS writes of a bucket is read as a listing of it would be."""

from __future__ import annotations

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import lists, scan

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
PLAIN = ("Bucket", "Key", "Size", "LastModifiedDate", "ETag", "StorageClass")
VERSIONED = ("Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag")
PARQUET = pa.schema(
    [
        pa.field("bucket", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        ("version_id", pa.string()),
        ("is_latest", pa.bool_()),
        ("is_delete_marker", pa.bool_()),
        ("size", pa.int64()),
        ("last_modified_date", pa.timestamp("ms", "UTC")),
        ("e_tag", pa.string()),
    ]
)


def csv_gz(*rows):
    """Return a file as AWS writes it: every value quoted, no header."""
    return gzip.compress("".join(",".join(f'"{value}"' for value in row) + "\n" for row in rows).encode())


def parquet(*rows):
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist([dict(zip(PARQUET.names, row, strict=True)) for row in rows], PARQUET), out)
    return out.getvalue()


@pytest.fixture
def place(s3, tmp_path):
    return f"{s3}/inventories/{tmp_path.name}"


def put(place, kind, schema, *files, **changes):
    """Put an inventory; return its manifest.json."""
    bucket, _, folder = place.removeprefix("s3://").partition("/")
    described = []
    for number, content in enumerate(files):
        storage.put(f"{place}/data/{number}", content)
        described.append({"key": f"{folder}/data/{number}", "size": len(content), "MD5checksum": "not looked at"})
    told = {
        "sourceBucket": "songs",
        "destinationBucket": f"arn:aws:s3:::{bucket}",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": kind,
        "fileSchema": schema,
        "files": described,
    } | changes
    storage.put(f"{place}/manifest.json", json.dumps(told).encode())
    return f"{place}/manifest.json"


def found(uri, **options):
    return [tuple(row.values()) for row in scan.scan([uri], **options).table.drop_columns("id").to_pylist()]


def test_keys_of_csv_are_decoded_and_only_audio_is_listed(place):
    rows = [
        ("songs", "a+b%2B+%C3%A9.mp3", 12, "2026-01-01T00:00:00.000Z", MD5, "STANDARD"),
        ("songs", "deep/100%25.FLAC", 13, "", f"{MD5}-2", "STANDARD"),
        *(("songs", key, 1, "", MD5, "STANDARD") for key in ("notes.txt", ".hidden.mp3", "deep/.x/y.mp3", "mp3", "deep/")),
    ]
    uri = put(place, "CSV", ", ".join(PLAIN), csv_gz(*rows[:1]), csv_gz(*rows[1:]))
    assert found(uri) == [("s3://songs/a b+ \u00e9.mp3", 12, MD5), ("s3://songs/deep/100%.FLAC", 13, f"{MD5}-2")]
    assert found(uri, limit=1) == [("s3://songs/a b+ \u00e9.mp3", 12, MD5)]


def test_an_inventory_tells_what_it_leaves_out_and_follows_patterns(place):
    rows = [("songs", key, 1, "", MD5, "STANDARD") for key in ("a.mp3", "live/b+c.mp3", "x.csv", "y.csv", ".z", "deep/")]
    uri = put(place, "CSV", SCHEMA, csv_gz(*rows))
    assert scan.scan([uri]).warnings == (f"{uri}: left out: 2 other files (.csv 2), 1 hidden file",)
    scanned = scan.scan([uri], how=lists.Reading(include=("*.mp3",), exclude=("live/b c*",)))
    assert scanned.table.column("uri").to_pylist() == ["s3://songs/a.mp3"]
    assert scanned.warnings == (f"{uri}: left out: 1 hidden file, 3 files by --include and --exclude",)


def versions(true, false, nothing):  # as each format spells them
    return [
        ("songs", "old.mp3", "1", false, false, 1, nothing, MD5),
        ("songs", "gone.mp3", "2", true, true, nothing, nothing, nothing),
        ("songs", "now.mp3", "3", true, false, 12, nothing, MD5),
        ("songs", "notes.txt", "4", true, false, 12, nothing, MD5),
    ]


def test_of_versions_only_the_latest_are_listed_that_are_not_deleted(place):
    of_csv = put(f"{place}/csv", "CSV", ", ".join(VERSIONED), csv_gz(*versions(true="true", false="false", nothing="")))
    of_parquet = put(
        f"{place}/parquet", "Parquet", "message s3.inventory {}", parquet(*versions(true=True, false=False, nothing=None))
    )
    assert found(of_csv) == found(of_parquet) == [("s3://songs/now.mp3", 12, MD5)]


def test_keys_of_parquet_are_taken_as_they_are(place):
    file = parquet(("songs", "a+b%2B.mp3", None, True, False, 3, None, None))
    assert found(put(place, "Parquet", "message s3.inventory {}", file)) == [("s3://songs/a+b%2B.mp3", 3, None)]


def test_an_inventory_of_a_bucket_says_what_a_listing_of_it_says(place, s3):
    for name in ("x y.mp3", "z+.wav"):
        storage.put(f"{place}/in/{name}", name.encode())
    folder = place.removeprefix(f"{s3}/")
    rows = [
        ("songs", f"{folder}/in/{name}", found.bytes, "", found.etag, "STANDARD")
        for name, found in (("x+y.mp3", storage.info(f"{place}/in/x y.mp3")), ("z%2B.wav", storage.info(f"{place}/in/z+.wav")))
    ]
    uri = put(place, "CSV", ", ".join(PLAIN), csv_gz(*rows))
    assert scan.scan([uri]).table.equals(scan.scan([f"{place}/in"]).table)


def test_keys_that_no_uri_may_have_are_left_out_with_a_warning(place):
    rows = [("songs", key, 1, "", MD5, "STANDARD") for key in ("a.mp3", "b%0A.mp3", "d%3Fx%3D1.mp3")]
    uri = put(place, "CSV", ", ".join(PLAIN), csv_gz(*rows))
    scanned = scan.scan([uri])
    assert scanned.table.column("uri").to_pylist() == ["s3://songs/a.mp3"]
    assert "left out: 2 files with an invalid name" in scanned.warnings[0]


GOOD = csv_gz(("songs", "a.mp3", 1, "", MD5, "STANDARD"))
SCHEMA = ", ".join(PLAIN)


@pytest.mark.parametrize(
    ("kind", "schema", "content", "changes", "named"),
    [
        ("ORC", "struct<>", GOOD, {}, "its files are ORC, expected CSV or Parquet"),
        ("CSV", "Bucket, Size", GOOD, {}, "no column key"),
        ("CSV", SCHEMA, GOOD[:20], {}, "data/0: "),
        ("CSV", SCHEMA, b"not gzipped", {}, "data/0: "),
        ("CSV", "Bucket, Key", GOOD, {}, "data/0: "),
        ("CSV", SCHEMA, csv_gz(("songs", "a.mp3", "many", "", MD5, "STANDARD")), {}, "data/0: "),
        (
            "CSV",
            SCHEMA,
            csv_gz(("songs", "notes.doc", 1, "", MD5, "STANDARD")),
            {},
            "found no audio in .*1 other file .\\.doc 1.",
        ),
        ("Parquet", SCHEMA, GOOD, {}, "data/0: "),
        ("CSV", SCHEMA, GOOD, {"destinationBucket": "KEY:hush@bucket"}, "credentials"),
        ("CSV", SCHEMA, GOOD, {"files": [{"key": "absent", "size": 1}]}, "absent: not found"),
        ("CSV", SCHEMA, GOOD, {"files": 7}, "not the manifest.json of an S3 Inventory"),
        ("CSV", SCHEMA, GOOD, {"files": [{"key": "x"}]}, "not the manifest.json of an S3 Inventory"),
    ],
    ids=lambda content: "" if isinstance(content, bytes) else None,
)
def test_what_is_no_inventory_is_refused_in_one_line(place, kind, schema, content, changes, named):
    uri = put(place, kind, schema, content, **changes)
    with pytest.raises(errors.ManifestError, match=named) as caught:
        scan.scan([uri])
    assert "hush" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_file_that_is_not_as_long_as_said_is_refused(place):
    uri = put(place, "CSV", SCHEMA, GOOD)
    storage.put(f"{place}/data/0", GOOD[:-1])
    with pytest.raises(errors.ManifestError, match=f"has {len(GOOD) - 1} bytes, expected {len(GOOD)}"):
        scan.scan([uri])


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "holds no rows"),
        (b"{", "not readable as JSONL"),
        (b"[]", "holds no rows"),
        (b"7", "not readable as JSONL"),
        (b"[" * 100_000, "not readable as JSONL"),
        (b"\xff", "not readable as JSONL"),
        (b'{"x": 1}', "no uri column; found x"),
        (b'{"fileSchema": 1}', "not the manifest.json of an S3 Inventory"),
    ],
)
def test_a_json_file_that_is_neither_inventory_nor_list_is_refused(tmp_path, content, named):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(errors.ManifestError, match=named):
        scan.scan([str(tmp_path / "manifest.json")])


def test_an_inventory_that_is_run_is_refused_and_says_what_makes_a_manifest_of_it(place):
    with pytest.raises(errors.ManifestError, match="of an S3 Inventory; sep-batch manifest makes a manifest"):
        manifest.read(put(place, "CSV", SCHEMA, GOOD))


def test_a_list_of_json_is_no_inventory(tmp_path):
    (tmp_path / "list.json").write_text('{"audio_filepath": "a.wav", "duration": 1.5}\n')
    assert scan.scan([str(tmp_path / "list.json")]).table.column("uri").to_pylist() == [str(tmp_path / "a.wav")]
