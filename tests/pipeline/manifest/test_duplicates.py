"""Files of one content are one row of a manifest, and what was left out is told."""

from __future__ import annotations

import pytest

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest import duplicates, scan

BIG = b"z" * (9 << 20)  # a multipart upload, and more than one block of hashing


def kept(by, *sources):
    """Return the names that stay, and what was told."""
    table = scan.scan([str(source) for source in sources]).table
    counts = []
    left, told = duplicates.leave_out(table, by, counts.append)
    assert sum(counts) == table.num_rows
    assert left.schema.equals(table.schema)
    return [uri.rpartition("/")[2] for uri in left.column("uri").to_pylist()], told


def fill(folder, **contents):
    for name, content in contents.items():
        storage.put(f"{folder}/{name}.wav", content)


def test_of_files_of_one_content_the_first_by_name_stays(tmp_path):
    fill(tmp_path, b=b"one", a=b"one", c=b"two", d=b"other length", e=b"one", f=BIG, g=BIG[:-1] + b"y", h=BIG)
    names, told = kept("sha256", tmp_path / "b.wav", tmp_path)
    assert names == ["a.wav", "c.wav", "d.wav", "f.wav", "g.wav"]
    copies = (("b", "a"), ("e", "a"), ("h", "f"))
    shown = "; ".join(f"{tmp_path}/{copy}.wav is {tmp_path}/{first}.wav" for copy, first in copies)
    assert told == [f"left out: 3 files with the same content as another: {shown}"]


def test_only_files_of_one_size_are_read(tmp_path, monkeypatch):
    fill(tmp_path, a=b"1", b=b"22", c=b"33", d=b"4444")
    opened, open_ranges = [], storage.open_ranges
    monkeypatch.setattr(storage, "open_ranges", lambda uri, *args: opened.append(uri) or open_ranges(uri, *args))
    assert kept("sha256", tmp_path) == (["a.wav", "b.wav", "c.wav", "d.wav"], [])
    assert sorted(opened) == [f"{tmp_path}/b.wav", f"{tmp_path}/c.wav"]


def test_of_many_copies_the_first_five_are_named(tmp_path):
    fill(tmp_path, **{f"x{number}": b"same" for number in range(9)})
    names, (told,) = kept("sha256", tmp_path)
    assert names == ["x0.wav"]
    assert told.startswith("left out: 8 files with the same content as another")
    assert told.count(" is ") == 5
    assert told.endswith("; ...")


def test_two_excerpts_of_one_file_are_two_tracks(tmp_path):
    fill(tmp_path, a=b"same", b=b"same")
    (tmp_path / "l.csv").write_text("uri,offset_s\na.wav,0\na.wav,10\nb.wav,10\nb.wav,\n")
    names, (told,) = kept("sha256", tmp_path / "l.csv")
    assert names == ["a.wav", "a.wav", "b.wav"]
    assert f"{tmp_path}/b.wav is {tmp_path}/a.wav" in told


def test_excerpts_of_one_file_are_not_read_to_be_compared_with_themselves(tmp_path, monkeypatch):
    fill(tmp_path, a=b"1", b=b"22")
    (tmp_path / "l.csv").write_text("uri,offset_s\na.wav,0\na.wav,10\nb.wav,0\n")
    monkeypatch.setattr(storage, "open_ranges", lambda *_args: pytest.fail("read"))
    assert kept("sha256", tmp_path / "l.csv") == (["a.wav", "a.wav", "b.wav"], [])


def test_what_cannot_be_read_stays_and_is_told_of(tmp_path):
    fill(tmp_path, a=b"same", b=b"same")
    (tmp_path / "l.csv").write_text("uri,size\na.wav,4\nabsent.wav,4\nnowhere.wav,\n")
    names, told = kept("sha256", tmp_path / "l.csv")
    assert names == ["a.wav", "absent.wav", "nowhere.wav"]
    assert ["nowhere.wav" in told[0], "absent.wav" in told[1]] == [True, True]


def test_a_disk_has_no_etag_of_the_content(tmp_path):
    fill(tmp_path, a=b"same")
    with pytest.raises(errors.UsageError, match=r"a\.wav is not on S3.*--dedup sha256"):
        kept("etag", tmp_path)


def test_by_etag_nothing_is_read_and_what_was_uploaded_in_parts_stays(s3, tmp_path, monkeypatch):
    import boto3

    folder = f"{s3}/{tmp_path.name}"
    fill(folder, b=b"one", a=b"one", c=b"two")
    client, key = boto3.client("s3"), f"{tmp_path.name}/%s.wav"
    for name in ("p", "q"):
        upload = client.create_multipart_upload(Bucket="songs", Key=key % name)["UploadId"]
        place = {"Bucket": "songs", "Key": key % name, "UploadId": upload}
        etag = client.upload_part(**place, PartNumber=1, Body=b"one")["ETag"]
        client.complete_multipart_upload(**place, MultipartUpload={"Parts": [{"ETag": etag, "PartNumber": 1}]})
    monkeypatch.setattr(storage, "open_ranges", lambda *_args: pytest.fail("read"))
    names, told = kept("etag", folder)
    assert names == ["a.wav", "c.wav", "p.wav", "q.wav"]
    assert told[0].startswith("2 objects uploaded in parts")
    assert told[1] == f"left out: 1 file with the same content as another: {folder}/b.wav is {folder}/a.wav"


def test_by_etag_storage_is_asked_where_a_list_says_none(s3, tmp_path):
    folder = f"{s3}/{tmp_path.name}"
    fill(folder, a=b"one", b=b"one")
    storage.put(f"{folder}/l.txt", b"b.wav\na.wav\n")
    assert kept("etag", f"{folder}/l.txt")[0] == ["a.wav"]


def test_by_sha256_what_was_uploaded_in_whatever_way_is_compared(s3, tmp_path):
    folder = f"{s3}/{tmp_path.name}"
    fill(folder, a=BIG, b=BIG, c=BIG[:-1] + b"y")
    assert kept("sha256", folder)[0] == ["a.wav", "c.wav"]
