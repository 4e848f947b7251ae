"""The formats of manifests: CSV as people have it, JSON, text, playlists, gzip, Lhotse, Hugging Face."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from sep_batch.jobs.setup.stem_layout import default_out
from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import formats, scan
from sep_batch.pipeline.rows import EXTRA


def read(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return manifest.read(str(path), **options)


def rows(found):
    """Return what a manifest says of each track, without the folder of its sources."""
    ours = found.tracks.drop_columns(["id", "source_etag", "attempts"]).to_pylist()
    return [
        {name: value for name, value in row.items() if value is not None} | {"uri": row["uri"].rpartition("/")[2]} for row in ours
    ]


def refusal(path, content, **options):
    with pytest.raises(errors.ManifestError) as caught:
        read(path, content, **options)
    return str(caught.value)


SAID = [{"uri": "a.wav", "offset_s": 1.5, EXTRA: {"title": "x, y"}}, {"uri": "b.wav", EXTRA: {"title": None}}]
COMMAS = 'uri,offset_s,title\na.wav,1.5,"x, y"\nb.wav,,\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", COMMAS),
        ("m.csv", COMMAS.replace("\n", "\r\n")),
        ("m.csv", "\ufeff" + COMMAS),
        ("m.csv", COMMAS.encode("utf-16")),
        ("m.csv", ' uri , offset_s,title \n  a.wav, 1.5 ,"x, y"\nb.wav ,,\n'),
        ("m.csv", "\ufeffuri;offset_s;title\na.wav;1,5;x, y\nb.wav;;\n"),
        ("m.csv", '"uri";"offset_s";"title"\n"a.wav";"1,5";"x, y"\n"b.wav";;\n'),
        ("m.csv", "uri\toffset_s\ttitle\na.wav\t1.5\tx, y\nb.wav\t\t\n"),
        ("m.tsv", "uri\toffset_s\ttitle\na.wav\t1,5\tx, y\nb.wav\t\t\n"),
        ("m.TSV", COMMAS),
        ("m.csv.gz", gzip.compress(COMMAS.encode(), mtime=0)),
        ("m.tsv.gz", gzip.compress(b"uri\toffset_s\ttitle\na.wav\t1.5\tx, y\nb.wav\t\t\n", mtime=0)),
        ("m.CSV.GZ", gzip.compress(COMMAS[:30].encode(), mtime=0) + gzip.compress(COMMAS[30:].encode(), mtime=0)),
    ],
)
def test_csv_is_read_as_people_have_it(tmp_path, name, content):
    assert rows(read(tmp_path / name, content)) == SAID


@pytest.mark.parametrize("text", ["uri\na;b.wav\n", "uri,note\na;b.wav,c;d;e;f\n", "note;s,uri\nx,a;b.wav\n"])
def test_semicolons_separate_only_where_the_first_line_says_so(tmp_path, text):
    assert [row["uri"] for row in rows(read(tmp_path / "m.csv", text))] == ["a;b.wav"]


def test_a_column_of_ids_that_is_chosen_tells_the_separator_too(tmp_path):
    found = read(tmp_path / "m.csv", "file;key\na.wav;007\n", uri_column="file", id_column="key")
    assert found.tracks.select(["id"]).to_pylist() == [{"id": "007"}]


def test_a_decimal_comma_in_quotes_between_commas_is_no_number(tmp_path):
    assert "row 1: offset_s '1,5', expected a number of seconds" in refusal(tmp_path / "m.csv", 'uri,offset_s\na.wav,"1,5"\n')


def test_texts_of_several_lines_are_read_wherever_in_a_large_file_they_lie(tmp_path):
    count = 20_000
    text = "uri,offset_s,lyrics\n" + "".join(f'a.flac,{n}.5,"la, la\n{n}, {"x" * 100}"\n' for n in range(count))
    found = read(tmp_path / "m.csv", text)
    assert len(text) > 2 << 20
    assert found.tracks.column("offset_s").to_pylist() == [n + 0.5 for n in range(count)]
    lyrics = found.tracks.column(EXTRA).combine_chunks().field("lyrics").to_pylist()
    assert lyrics == [f"la, la\n{n}, {'x' * 100}" for n in range(count)]


def test_csv_in_another_encoding_is_refused_and_says_which_is_expected(tmp_path):
    assert "expected UTF-8" in refusal(tmp_path / "m.csv", "uri\n\u00e9.wav\n".encode("latin-1"))


OBJECTS = [{"uri": "a.wav", "offset_s": 1.5, "title": "x, y"}, {"uri": "b.wav"}]
LINES = "".join(json.dumps(row) + "\n" for row in OBJECTS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.json", LINES),
        ("m.json", json.dumps(OBJECTS)),
        ("m.json", "\ufeff \n" + json.dumps(OBJECTS, indent=2)),
        ("m.jsonl", LINES.encode("utf-16")),
        ("m.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("m.json.gz", gzip.compress(json.dumps(OBJECTS).encode(), mtime=0)),
    ],
)
def test_json_is_lines_of_objects_or_an_array_of_them(tmp_path, name, content):
    assert rows(read(tmp_path / name, content)) == SAID


def test_a_text_list_is_run_as_it_is(tmp_path):
    found = read(tmp_path / "list.txt", "\ufeffa.wav\r\n\n  b c.wav \n#1 hit.wav\ns3://songs/x y.mp3")
    assert [row["uri"] for row in rows(found)] == ["a.wav", "b c.wav", "#1 hit.wav", "x y.mp3"]
    assert rows(read(tmp_path / "list.txt.gz", gzip.compress(b"a.wav\nb.wav", mtime=0))) == [{"uri": "a.wav"}, {"uri": "b.wav"}]


PLAYLIST = """#EXTM3U
#EXTINF:123,Somebody - Something
a.wav

#EXTVLCOPT:start-time=5
../other/b%20c.wav
file:///music/b%20c%C3%A9.wav
file://localhost/music/d.wav
s3://songs/100%25.wav
"""


@pytest.mark.parametrize("name", ["p.m3u", "p.m3u8", "p.M3U", "p.m3u8.gz"])
def test_a_playlist_is_a_list_of_files(tmp_path, name):
    content = PLAYLIST.replace("\n", "\r\n").encode()
    found = read(tmp_path / name, gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    assert found.warnings == ()
    assert found.tracks.column("uri").to_pylist() == [
        *(f"{tmp_path}/a.wav", f"{tmp_path.parent}/other/b%20c.wav"),
        *("/music/b c\u00e9.wav", "/music/d.wav", "s3://songs/100%25.wav"),
    ]


def test_a_playlist_of_another_encoding_is_read_with_a_warning_and_an_m3u8_is_refused(tmp_path):
    content = "\u00e9t\u00e9 \u20ac.wav\n".encode("cp1252")
    found = read(tmp_path / "p.m3u", content)
    assert found.tracks.column("uri").to_pylist() == [f"{tmp_path}/\u00e9t\u00e9 \u20ac.wav"]
    assert "read as Windows-1252" in found.warnings[0]
    assert "neither UTF-8 nor Windows-1252" in refusal(tmp_path / "q.m3u", b"\x81.wav\n")
    assert "not readable as M3U: expected UTF-8" in refusal(tmp_path / "p.m3u8", content)


def test_a_playlist_of_windows_or_of_a_stream_is_refused_in_words(tmp_path):
    said = refusal(tmp_path / "p.m3u", "C:\\Music\\a.mp3\n\\\\nas\\b.mp3\nMusic\\c.mp3\n")
    assert said.count("a Windows path") == 3
    assert "an HLS stream" in refusal(tmp_path / "p.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9.9,\na.ts\n")


def source(name, kind="file", channels=(0,)):
    return {"type": kind, "channels": list(channels), "source": name}


def recording(id="r1", *sources, **more):
    described = {"id": id, "sources": list(sources or [source(f"{id}.wav")])}
    return described | {"sampling_rate": 16_000, "num_samples": 40_000, "duration": 2.5} | more


def lines(*objects):
    return gzip.compress("".join(json.dumps(one) + "\n" for one in objects).encode())


def test_lhotses_recordings_are_tracks(tmp_path):
    found = read(tmp_path / "recordings.jsonl.gz", lines(recording("r1"), recording("r2", source("s3://b/x.wav", "url"))))
    assert found.tracks.column("id").to_pylist() == ["r1", "r2"]
    assert found.tracks.column("uri").to_pylist() == [f"{tmp_path}/r1.wav", "s3://b/x.wav"]
    assert found.tracks.column("duration_s").to_pylist() == [None, None]
    assert found.tracks.column(EXTRA).to_pylist()[0] == {"sampling_rate": 16_000, "num_samples": 40_000, "duration": 2.5}


def cut(id, start, duration, kind="MonoCut", channel=0, of=None):
    return {"id": id, "start": start, "duration": duration, "channel": channel, "type": kind, "recording": of or recording()}


def test_lhotses_cuts_are_segments_and_a_whole_recording_has_no_limit(tmp_path):
    stereo = recording("r2", source("r2.wav", channels=(0, 1)))
    mono = read(tmp_path / "cuts.jsonl.gz", lines(cut("c1", 0.5, 1.25), cut("c2", 0.0, 2.5)))
    multi = read(tmp_path / "multi.jsonl.gz", lines(cut("c3", 1.0, 1.5, "MultiCut", [0, 1], stereo)))
    assert [
        tuple(row.values())
        for row in pa.concat_tables(
            found.tracks.select(["id", "uri", "offset_s", "duration_s"]) for found in (mono, multi)
        ).to_pylist()
    ] == [
        ("c1", f"{tmp_path}/r1.wav", 0.5, 1.25),
        ("c2", f"{tmp_path}/r1.wav", None, None),
        ("c3", f"{tmp_path}/r2.wav", 1.0, 1.5),
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (recording("r2", source("a.wav"), source("b.wav")), "a Lhotse recording of 2 sources, expected one file"),
        (recording("r2", source("curl x", "command")), "a Lhotse source of type command, expected file or url"),
        (recording("r2", transforms=[{"name": "Speed"}]), "with transforms, which are not applied here"),
        (recording("AC/DC"), "id 'AC/DC'"),
    ],
)
def test_a_recording_that_is_not_one_file_as_it_lies_there_is_a_bad_row(tmp_path, row, problem):
    content = lines(recording("r1"), row)
    assert problem in refusal(tmp_path / "recordings.jsonl.gz", content)
    found = read(tmp_path / "recordings.jsonl.gz", content, bad_rows="fail").tracks
    assert problem in found.column("problem")[1].as_py()


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (cut("c2", 0.0, 1.0, "PaddingCut"), "a Lhotse cut of type PaddingCut, expected MonoCut or MultiCut"),
        (cut("c2", 0.0, 1.0, of=recording("r2", source("r2.wav", channels=(0, 1)))), "a Lhotse cut of 1 of 2 channels"),
        (cut("c2", 0.0, 1.0) | {"recording": None}, "a Lhotse recording of 0 sources"),
    ],
)
def test_a_cut_that_is_no_segment_of_one_file_is_a_bad_row(tmp_path, bad, problem):
    assert problem in refusal(tmp_path / "cuts.jsonl", gzip.decompress(lines(cut("c1", 0.0, 1.0), bad)))


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_hugging_faces_metadata_names_files_beside_it(tmp_path, name):
    table = pa.table({"file_name": ["train/a.wav", "train/b.wav"], "text": ["x", "y"]})
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(table, tmp_path / name)
    else:
        lines_ = [json.dumps(row) for row in table.to_pylist()]
        (tmp_path / name).write_text(
            "\n".join(lines_ if name.endswith("jsonl") else ["file_name,text", "train/a.wav,x", "train/b.wav,y"])
        )
    found = manifest.read(str(tmp_path / name)).tracks
    assert found.column("uri").to_pylist() == [f"{tmp_path}/train/a.wav", f"{tmp_path}/train/b.wav"]
    assert found.column(EXTRA).to_pylist() == [{"text": "x"}, {"text": "y"}]


def test_every_extension_that_is_named_is_read_as_a_list_too():
    for extension in formats.MANIFEST_EXTENSIONS:
        name = f"memory://formats/m{extension}"
        if extension in (".parquet", ".pq"):
            pyarrow.parquet.write_table(pa.table({"uri": ["a.wav"]}), out := pa.BufferOutputStream())
            content = out.getvalue().to_pybytes()
        else:
            content = (
                b"a.wav\n"
                if extension in (".txt", ".m3u", ".m3u8")
                else b'{"uri": "a.wav"}'
                if "js" in extension
                else b"uri\na.wav"
            )
        if extension not in (".parquet", ".pq"):
            storage.put(f"{name}.gz", gzip.compress(content, mtime=0))
        storage.put(name, content)
        for uri in [name] if extension in (".parquet", ".pq") else [name, f"{name}.gz"]:
            assert scan.scan([uri]).table.column("uri").to_pylist() == ["memory://formats/a.wav"], uri
            assert default_out(uri) == "memory://formats/m.stems"


@pytest.mark.parametrize(
    ("name", "stem"), [("a.tar.gz", "a.tar"), ("a.mp3", "a"), ("folder", "folder"), ("b.CSV.GZ", "b"), (".csv", ".csv")]
)
def test_stems_go_beside_the_source_under_its_name_without_its_extension(name, stem):
    assert default_out(f"/music/{name}") == f"/music/{stem}.stems"
