"""Hostile manifests: each is refused in one clear line or becomes failed rows; no secret is repeated, nothing else is touched."""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import stems_below, write_tone
from witness import watching

from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import scan
from sep_batch.pipeline.out import index

CANARY = "CANARY7f3a"  # a secret of somebody's: it must appear nowhere
LONGEST_LINE = 8000  # twenty rows of at most 400 characters
HUGE = 10_000_000


def rows(*found):
    """Return JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in found).encode()


def parquet(**columns):
    """Return a Parquet file."""
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), out)
    return out.getvalue()


def doubled():
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["uri", "uri"]), out)
    return out.getvalue()


BAD_URIS = {
    f"s3://KEY:{CANARY}@bucket/a.wav": "credentials",
    f"s3://KEY:/{CANARY}/@bucket/a.wav": "credentials",
    f"s3://{CANARY}@bucket/a.wav": "credentials",
    f"s3://bucket/a.wav?endpoint_override=http://evil.example&secret={CANARY}": "holds a query",
    f"s3://bucket/a.wav?versionId={CANARY}": "holds a query",
    f"s3://bucket/a.wav?X-Amz-Credential=x&X-Amz-Signature={CANARY}": "holds a query",
    f"gs://bucket/a.wav?generation={CANARY}": "holds a query",
    "gs://bucket/a.wav#1234567890": "holds a fragment",
    f"az://box/a.wav?{CANARY}": "holds a query",
    f"abfss://box@{CANARY}.dfs.core.windows.net/a.wav": "credentials",
    "az://account.blob.core.windows.net/box/a.wav": "the name of a bucket",
    "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/x/a.wav": "credentials",
    f"http://host/a.wav?token={CANARY}": "--allow-http",
    f"https://user:{CANARY}@host/a.wav": "--allow-http",
    f"simplecache::s3://KEY:{CANARY}@bucket/a.wav": "scheme 'simplecache::s3'",
    f"zip://a.wav::s3://KEY:{CANARY}@bucket/a.zip": "scheme 'zip'",
    "s3://bucket/a.zip::file:///etc/passwd": "chained",
    "local:///etc/passwd": "scheme 'local'",
    "FILE:///etc/passwd": "scheme 'FILE'",
    "file://host/share/a.wav": "names a host",
    "C:\\music\\a.wav": "a Windows path",
    "\\\\server\\share\\a.wav": "a Windows path",
    f"sftp://user:{CANARY}@host/a.wav": "scheme 'sftp'",
    f"smb://user:{CANARY}@host/a.wav": "scheme 'smb'",
    "github://org:repo@/a.wav": "scheme 'github'",
    f"user:{CANARY}@host://a.wav": "scheme '...'",
    "s3:///a.wav": "the name of a bucket",
    "s3://": "the name of a bucket",
    "s3://../other/a.wav": "the name of a bucket",
    "s3://bucket/../other/a.wav": "a component . or ..",
    "s3://[bucket/a.wav": "the name of a bucket",
    "s3://bucket\u2100/a.wav": "the name of a bucket",
    "s3://b\u0443cket/a.wav": "the name of a bucket",
    "a\0.wav": "U+0000",
    "a\n.wav": "U+000A",
    "s3://bucket/a\x1b[2J.wav": "U+001B",
    "a\u2028.wav": "U+2028",
    "a" * 5000: "5,000 characters",
    "a" * HUGE: "10,000,000 characters",
}
BAD_FIELDS = {
    "id ../../x": ({"uri": "a.wav", "id": "../../x"}, "expected 1 to 200 of"),
    "id /etc/x": ({"uri": "a.wav", "id": "/etc/x"}, "expected 1 to 200 of"),
    "id {stem}": ({"uri": "a.wav", "id": "{stem}"}, "expected 1 to 200 of"),
    "id with NUL": ({"uri": "a.wav", "id": "a\0b"}, "expected 1 to 200 of"),
    "id with RTL mark": ({"uri": "a.wav", "id": "a\u202egpj.exe"}, "expected 1 to 200 of"),
    "id of homoglyphs": ({"uri": "a.wav", "id": "s\u043eng"}, "expected 1 to 200 of"),
    "id a formula": ({"uri": "a.wav", "id": "=HYPERLINK(1)"}, "expected 1 to 200 of"),
    "id of 10 MB": ({"uri": "a.wav", "id": "x" * HUGE}, "expected 1 to 200 of"),
    "offset 1e308": ({"uri": "a.wav", "offset_s": 1e308}, "offset_s 1e+308, expected 0 or more, at most 1e+09"),
    "offset negative": ({"uri": "a.wav", "offset_s": -1e-9}, "offset_s -1e-09"),
    "duration 1e308": ({"uri": "a.wav", "duration_s": 1e308}, "duration_s 1e+308"),
    "duration negative": ({"uri": "a.wav", "duration_s": -5}, "duration_s -5.0"),
    "offset a text": ({"uri": "a.wav", "offset_s": f"s3://KEY:{CANARY}@x"}, "row 1: offset_s 's3://...', expected a number"),
    "uri an object": ({"uri": {"s3": CANARY}}, "column uri: found struct"),
    "uri a list": ({"uri": [CANARY]}, "column uri: found list"),
}
BAD_FILES = {
    "ragged.csv": (f"uri,id\na.wav,a\ns3://KEY:{CANARY}@b/k\n".encode(), "Expected 2 columns, got 1: ..."),
    "ragged_signed.csv": (f"uri\na.wav\nhttps://h/k?sig={CANARY},1\n".encode(), "Expected 1 columns, got 2: ..."),
    "utf16.csv": ("uri\na.wav\n".encode("utf-16-le"), "no uri column"),
    "cut_utf16.csv": ("uri\na.wav\n".encode("utf-16")[:-1], "not readable as CSV"),
    "bomb.csv.gz": (gzip.compress(bytes(70 << 20)), "hold more than 67,108,864"),
    "cut.csv.gz": (gzip.compress(b"uri\na.wav\n")[:-4], "not readable as gzip"),
    "no_gzip.csv.gz": (f"uri\n{CANARY}\n".encode(), "not readable as gzip"),
    "secrets.txt": (f"s3://KEY:{CANARY}@b/k\n".encode(), "row 1: s3://...: credentials"),
    "secrets.m3u": (f"#EXTM3U\nhttps://h/a.mp3?sig={CANARY}\n".encode(), "row 1: https://h/a.mp3?...: https is read only with"),
    "passwords.m3u": (f"#EXTINF:{CANARY}\nfile://host/%2e%2e\n".encode(), "names a host"),
    "hls.m3u8": (f"#EXTM3U\n#EXT-X-KEY:{CANARY}\na.ts\n".encode(), "an HLS stream"),
    "deep_lines.json": (b'{"x":\n' * 9000, "line 21 is nested deeper than 20"),
    "array.json": (b'[{"uri": "a.wav"}, "' + CANARY.encode() + b'"]', "expected an array of objects"),
    "open_array.json": (b"[" * 100_000, "expected one array of objects"),
    "shell.jsonl": (
        rows({"id": "r", "sources": [{"type": "command", "channels": [0], "source": f"curl {CANARY}"}]}),
        "row 1: a Lhotse source of type command, expected file or url",
    ),
    "latin1.csv": (b"uri\n\xe9.wav\n", "not readable as CSV"),
    "huge_field.csv": (b"uri\n" + b"a" * HUGE + b"\n", "not readable as CSV"),
    "doubled.csv": (b"uri,uri\na.wav,b.wav\n", "more than one column uri"),
    "quote_open.csv": (b'uri,id\n"a.wav,a\nb.wav,b\n', "Expected 2 columns, got 1"),
    "line_break_in_quotes.csv": (b'uri,id\n"a\n.wav",a\n', "holds U+000A"),
    "twins.csv": (b"uri,id\na.wav,Song\nb.wav,sONG\n", "only in case"),
    "no_column.csv": (f"{'x' * 1000},a\x1b[2J\n{CANARY},1\n".encode(), "no uri column"),
    "surrogate.jsonl": (b'{"uri": "\\ud800.wav"}\n', "not readable as JSONL"),
    "scalars.jsonl": (b"1\n2\n", "not readable as JSONL"),
    "deep.jsonl": (b'{"uri": "a.wav", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}\n", "line 1 is nested deeper than 20"),
    "deep_objects.jsonl": (b'{"uri": "a.wav"}\n' + b'{"x": ' * 9000 + b"1" + b"}" * 9000, "line 2 is nested deeper than 20"),
    "twice.jsonl": (b'{"uri": "a", "uri": "b"}\n', "not readable as JSONL"),
    "cut.jsonl": (f'{{"uri": "s3://KEY:{CANARY}@b/k'.encode(), "not readable as JSONL"),
    "cut.parquet": (parquet(uri=["a.wav"])[:-50], "not readable as Parquet"),
    "noise.parquet": (b"PAR1" + bytes(100) + b"PAR1", "not readable as Parquet"),
    "doubled.parquet": (doubled(), "more than one column uri"),
    "not_utf8.parquet": (parquet(uri=pa.array([b"\xff.wav"]).view(pa.string())), "not readable as Parquet"),
    "extra_not_utf8.parquet": (parquet(uri=["a.wav"], x=pa.array([b"\xff"]).view(pa.string())), "not readable as Parquet"),
    "bytes.parquet": (parquet(uri=[b"\xff\0"]), "column uri: found binary"),
    "dates.parquet": (parquet(uri=pa.array([{"a": 1}])), "column uri: found struct"),
}
REFUSED = (
    {f"uri {number}.jsonl": (rows({"uri": uri}), said) for number, (uri, said) in enumerate(BAD_URIS.items()) if len(uri) < HUGE}
    | {
        f"{name.replace('/', '_')}.parquet": (parquet(**{key: [found] for key, found in row.items()}), said)
        for name, (row, said) in BAD_FIELDS.items()
    }
    | {"uri of 10 MB.parquet": (parquet(uri=["a" * HUGE]), "10,000,000 characters")}
    | BAD_FILES
)


@pytest.fixture
def refusal(tmp_path, caplog, capfd):
    """Run a manifest that is to be refused, and return its one line: nothing was written or told but that, and nobody called."""

    def run(source):
        with watching() as seen, pytest.raises(errors.RunError) as refused:
            run_job(source, str(tmp_path / "out"))
        line, told = str(refused.value), capfd.readouterr()
        assert seen.changed == set()
        assert seen.connected == []
        assert (caplog.text, told.out, told.err) == ("", "", "")
        assert line.isprintable()
        assert len(line) < LONGEST_LINE
        assert CANARY not in line
        assert refused.value.exit_code == 5
        return line

    return run


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_manifest_is_refused_in_one_line_that_repeats_no_secret(name, tmp_path, refusal):
    content, said = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    assert said in refusal(str(tmp_path / name))


@pytest.mark.parametrize("uri", [uri for uri in BAD_URIS if len(uri) < HUGE and not uri[-1].isdigit()])
def test_a_manifest_of_a_hostile_name_is_refused_too(uri, refusal):
    refusal(f"{uri}.csv")


@pytest.mark.parametrize("uri", [uri for uri in BAD_URIS if len(uri) < HUGE and "://" in uri])
def test_an_out_of_a_hostile_name_is_refused_too(uri, songs, tmp_path, tiny, local, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with watching() as seen, pytest.raises(errors.RunError) as refused:
        run_job(str(songs / "song.wav"), uri, model=tiny)
    assert seen.changed == set()
    assert seen.connected == []
    assert CANARY not in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_relative_uri_may_not_leave_the_bucket_of_its_manifest(refusal):
    for uri, said in (
        ("../../x/a.wav", "leads out of memory://shelf"),
        ("a?versionId=1", "holds a query"),
        ("/etc/passwd", "--input-root"),
    ):
        storage.put("memory://shelf/lists/m.jsonl", rows({"uri": uri}))
        assert said in refusal("memory://shelf/lists/m.jsonl")


def test_a_thousand_bad_rows_are_one_line_of_twenty(tmp_path, refusal):
    (tmp_path / "m.jsonl").write_bytes(rows(*({"uri": f"s3://KEY:{CANARY}@b/{n}.wav"} for n in range(1000))))
    line = refusal(str(tmp_path / "m.jsonl"))
    assert "1,000 bad rows: row 1: s3://...: credentials" in line
    assert line.count("credentials and chained") == 20


ODD = {  # sources that may be named, and what becomes of them
    "../outside.wav": "ok",
    "deep/../../outside.wav": "ok",
    "a b#c?.wav": "ok",
    "who? me=you.wav": "ok",
    "a::b.wav": "ok",
    "rtl \u202eevil.wav": "ok",
    "n\u00e9.wav": "ok",
    "ne\u0301.wav": "ok",
    "s\u043eng.wav": "ok",
    "link.wav": "ok",
    "%2e%2e%2f.wav": "ok",
    "{id}{stem}.wav": "ok",
    "=cmd|' !A0.wav": "ok",
    'quote".wav': "ok",
    "~root.wav": "ok",
    "song.wav/" + "../" * 20 + "etc/hostname": "unsupported_format",
    "/etc/passwd": "unsupported_format",
    "/dev/zero": "bad_uri",
    "/proc/self/environ": "empty_audio",
    "pipe.wav": "bad_uri",
    "data:audio/wav;base64,UklGRg==": "not_found",
    "pipe:0": "not_found",
    "concat:song.wav|song.wav": "not_found",
    "file:/etc/passwd": "not_found",
    "folder.wav": "not_found",
    "loop.wav": "not_found",
    "dangling.wav": "not_found",
    "..": "not_found",
    " ": None,  # refused
}


@pytest.fixture
def songs(tmp_path):
    folder = tmp_path / "in" / "songs"
    folder.mkdir(parents=True)
    write_tone(folder.parent / "outside.wav", seconds=0.1)
    for name, expected in ODD.items():
        if expected == "ok" and "/" not in name and name != "link.wav":
            write_tone(folder / name, seconds=0.1)
    write_tone(folder / "song.wav", seconds=0.1)
    (folder / "link.wav").symlink_to("../outside.wav")
    (folder / "dangling.wav").symlink_to("nowhere.wav")
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "pipe.wav")
    return folder


@pytest.mark.parametrize("filename", [None, "{foldername}/{filename}-{id}/{stem}.{ext}", "{filename}/{id}-{instrument}.{codec}"])
def test_odd_sources_are_read_or_fail_alone_and_their_stems_stay_in_out(filename, songs, tmp_path, tiny, local, monkeypatch):
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    wanted = {uri: expected for uri, expected in ODD.items() if expected and uri != "loop.wav"}
    extra = [{"note": "=1+1\n\"'; DROP TABLE rows; --", "more": {"a": [{"b": "\u202e"}]}}] * len(wanted)
    listed = [{"id": f"t{n}", "uri": uri} | more for n, (uri, more) in enumerate(zip(wanted, extra, strict=True))]
    (songs / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + rows(*listed))
    options = {"filename": filename} if filename else {}
    with watching() as seen:
        summary = run_job(str(songs / "m.jsonl"), str(out), model=tiny, stems=("vocals",), max_failures="100", **options)
    assert summary.exit_code == 3
    assert seen.outside(out, scratch) == set()
    assert seen.connected == []
    found = {row["id"]: row for row in index.read(str(out)).to_pylist()}
    became = {row["uri"]: found[row["id"]]["error_class"] or found[row["id"]]["status"] for row in listed}
    assert became == wanted
    assert {row["note"] for row in found.values()} == {extra[0]["note"]}
    stems = stems_below(out)
    assert len(stems) == sum(expected == "ok" for expected in wanted.values())
    assert all(path.resolve().is_relative_to(out) for path in out.rglob("*"))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([{}], pa.struct([])),
        pa.array([[{}]], pa.list_(pa.struct([]))),
        pa.nulls(1, pa.month_day_nano_interval()),
        pa.array([2**62], pa.time64("us")),
        pa.array([2**62], pa.timestamp("ms")),
        pa.array(["{no json"], pa.json_()),
        pa.array([b"x" * 16], pa.uuid()),
        pa.array([2**31 - 1], pa.date32()),
        pa.array([2**63 - 1], pa.timestamp("us", tz="UTC")),
        pa.array(["x" * HUGE]),
        pa.array([1e300]),
        pa.nulls(1),
        pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
    ],
    ids=lambda column: str(column.type)[:40],
)
def test_no_column_of_a_manifest_keeps_the_index_from_being_written(column, songs, tmp_path, tiny, local, monkeypatch):
    table = pa.table({"uri": [str(songs / "song.wav")], "mine": column})
    listed = manifest.check(table, "m", str(songs))
    assert "mine" in " ".join(listed.warnings) or [field.name for field in listed.tracks.schema.field("extra").type] == ["mine"]
    monkeypatch.setattr(manifest, "read", lambda *_arguments, **_options: listed)
    assert run_job("m.parquet", str(tmp_path / "out"), model=tiny, stems=("vocals",)).ok == 1
    assert index.read(str(tmp_path / "out")).num_rows == 1


def test_names_that_no_uri_may_have_are_left_out_of_a_folder_with_a_warning(tmp_path):
    for name in ("good.wav", "line\nbreak.wav", "esc\x1b.wav"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / os.fsdecode(b"\xff.wav")).write_bytes(b"x")
    found = manifest.read(str(tmp_path))
    assert found.tracks.column("uri").to_pylist() == [str(tmp_path / "good.wav")]
    (warning,) = found.warnings
    assert warning.startswith("left out: 3 files with an invalid name, the first: ")
    assert warning.isprintable()
    scanned = scan.scan([str(tmp_path)])
    assert scanned.table.column("uri").to_pylist() == [str(tmp_path / "good.wav")]
    assert scanned.warnings == (f"{tmp_path}: {warning}",)
