from __future__ import annotations

import hashlib
import json
import re

import pyarrow as pa
import pyarrow.parquet
import pytest

from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import ids
from sep_batch.pipeline.rows import EXTRA, TRACK

ID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}")


def column(tracks, name):
    return tracks.column(name).to_pylist()


def extra(tracks):
    return column(tracks, EXTRA)


def checked(**columns):
    return manifest.check(pa.table(columns), "songs.parquet", "/music")


def refusal(**columns):
    with pytest.raises(errors.ManifestError) as caught:
        checked(**columns)
    return str(caught.value)


def write_text(path, text):
    path.write_text(text)
    return str(path)


def write_parquet(path, **columns):
    pyarrow.parquet.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize("spelling", ["uri", "url", "path", "audio_filepath", "file_name"])
def test_every_spelling_of_uri_is_read(spelling):
    tracks = checked(**{"other": [1], spelling: ["a.wav"]}).tracks
    assert column(tracks, "uri") == ["/music/a.wav"]
    assert extra(tracks) == [{"other": 1}]


def test_uri_is_preferred_to_its_other_spellings_which_are_carried():
    tracks = checked(path=["b.wav"], uri=["a.wav"]).tracks
    assert column(tracks, "uri") == ["/music/a.wav"]
    assert extra(tracks) == [{"path": "b.wav"}]


def test_other_columns_can_be_chosen(tmp_path):
    uri = write_text(tmp_path / "songs.csv", "uri,file,key\nx.wav,a.wav,007\n")
    tracks = manifest.read(uri, uri_column="file", id_column="key").tracks
    assert column(tracks, "uri") == [str(tmp_path / "a.wav")]
    assert column(tracks, "id") == ["007"]
    assert extra(tracks) == [{"manifest_uri": "x.wav"}]


@pytest.mark.parametrize(("uri_column", "id_column", "named"), [("file", None, "file"), (None, "key", "key")])
def test_a_chosen_column_that_is_not_there_is_refused_by_name(tmp_path, uri_column, id_column, named):
    uri = write_text(tmp_path / "songs.csv", "uri\na.wav\n")
    with pytest.raises(errors.ManifestError, match=named):
        manifest.read(uri, uri_column=uri_column, id_column=id_column)


CSV = "id,uri,offset_s,duration_s,genre,year\n001,a.wav,1.5,2,rock,1999\n1e5,/b/b.wav,,,,\n"
JSONL = (
    '{"id": "001", "uri": "a.wav", "offset_s": 1.5, "duration_s": 2, "genre": "rock", "year": 1999}\n'
    '{"id": "1e5", "uri": "/b/b.wav"}\n'
)


@pytest.mark.parametrize("name", ["songs.csv", "songs.CSV", "songs.jsonl", "songs.ndjson", "songs.parquet", "songs.pq"])
def test_a_manifest_is_read_in_each_format(tmp_path, name):
    if name.endswith(("parquet", "pq")):
        uri = write_parquet(
            tmp_path / name,
            id=["001", "1e5"],
            uri=["a.wav", "/b/b.wav"],
            offset_s=[1.5, None],
            duration_s=[2.0, None],
            genre=["rock", None],
            year=pa.array([1999, None], pa.int16()),
        )
    else:
        uri = write_text(tmp_path / name, CSV if name.lower().endswith("csv") else JSONL)
    found = manifest.read(uri)
    assert found.uri == uri
    assert found.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert found.warnings == ()
    assert found.tracks.drop_columns([EXTRA]).schema.equals(TRACK)
    assert found.tracks.drop_columns([EXTRA]).to_pylist() == [
        {
            "id": "001",
            "uri": str(tmp_path / "a.wav"),
            "offset_s": 1.5,
            "duration_s": 2.0,
            "source_etag": None,
            "attempts": 0,
        },
        {"id": "1e5", "uri": "/b/b.wav", "offset_s": None, "duration_s": None, "source_etag": None, "attempts": 0},
    ]
    assert extra(found.tracks) == [{"genre": "rock", "year": 1999}, {"genre": None, "year": None}]


@pytest.mark.parametrize("type", [pa.int16(), pa.float32(), pa.list_(pa.string()), pa.timestamp("us"), pa.bool_(), pa.binary()])
def test_further_columns_keep_their_types(tmp_path, type):
    column_ = pa.array([None, None], type)
    tracks = manifest.read(write_parquet(tmp_path / "m.parquet", uri=["a.wav", "b.wav"], mine=column_)).tracks
    assert tracks.schema.field(EXTRA).type.field("mine").type == type


def test_columns_in_several_batches_and_dictionaries_are_read():
    uris = pa.chunked_array([["a.wav"], ["b.wav", "c.wav"]])
    genres = pa.chunked_array([pa.array(["rock"]).dictionary_encode(), pa.array(["jazz", "rock"]).dictionary_encode()])
    found = manifest.check(pa.table({"uri": uris, "genre": genres}), "m", "/music").tracks
    assert column(found, "uri") == ["/music/a.wav", "/music/b.wav", "/music/c.wav"]
    assert extra(found) == [{"genre": "rock"}, {"genre": "jazz"}, {"genre": "rock"}]


def test_numbers_as_ids_become_text():
    assert column(checked(uri=["a.wav"], id=[17]).tracks, "id") == ["17"]


@pytest.mark.parametrize(("name", "text"), [("songs.csv", ""), ("songs.jsonl", ""), ("songs.csv", "uri,artist\n")])
def test_a_manifest_without_rows_is_refused(tmp_path, name, text):
    with pytest.raises(errors.ManifestError, match=f"{name}: holds no rows"):
        manifest.read(write_text(tmp_path / name, text))


def test_a_manifest_without_rows_is_refused_as_parquet_too(tmp_path):
    with pytest.raises(errors.ManifestError, match=r"songs\.parquet: holds no rows"):
        manifest.read(write_parquet(tmp_path / "songs.parquet", uri=pa.array([], pa.string())))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a.wav", "/music/a.wav"),
        ("./a.wav", "/music/a.wav"),
        ("../a.wav", "/a.wav"),
        ("deep/er/a.wav", "/music/deep/er/a.wav"),
        ("/abs/a.wav", "/abs/a.wav"),
        ("file:///abs/a.wav", "/abs/a.wav"),
        ("s3://songs/a.wav", "s3://songs/a.wav"),
        ("a b#?.wav", "/music/a b#?.wav"),
    ],
)
def test_a_relative_uri_is_relative_to_the_manifest(given, expected):
    assert column(checked(uri=[given]).tracks, "uri") == [expected]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a.wav", "s3://songs/lists/a.wav"), ("x/a.wav", "s3://songs/lists/x/a.wav"), ("./a.wav", "s3://songs/lists/a.wav")],
)
def test_a_relative_uri_of_a_remote_manifest_is_remote(given, expected):
    found = manifest.check(pa.table({"uri": [given]}), "s3://songs/lists/m.parquet", "s3://songs/lists")
    assert column(found.tracks, "uri") == [expected]


def test_a_made_id_is_the_file_name_and_a_hash_of_what_makes_it_this_track():
    digest = hashlib.sha256(b"/x/My Song (live)!.wav\n1.5\nNone").hexdigest()
    assert ids.made_id("/x/My Song (live)!.wav", 1.5, None) == f"My_Song__live__-{digest[:16]}"


@pytest.mark.parametrize(
    "uri",
    [
        "x.wav",
        ".hidden.wav",
        "..wav",
        "noextension",
        "a/b/",
        "\u00e9t\u00e9 \u97f3\u697d.wav",
        "a" * 300 + ".wav",
        "tab\t.wav",
        "\ud800.wav",
    ],
)
def test_a_made_id_is_an_id(uri):
    name = ids.made_id(uri, None, None)
    assert ID.fullmatch(name)
    assert len(name) <= 60 + 1 + 16
    assert re.search(r"-[0-9a-f]{16}$", name)


def test_made_ids_tell_files_of_one_name_and_excerpts_of_one_file_apart():
    uris = [f"album {number}/mix.wav" for number in range(100_000)]
    offsets = [None] * 100_000
    uris += ["one/mix.wav"] * 3
    offsets += [0.0, 10.0, None]
    found = checked(uri=uris, offset_s=pa.array(offsets, pa.float64()))
    assert found.warnings == ()
    assert len(set(column(found.tracks, "id"))) == 100_003
    assert column(found.tracks, "uri")[99_999] == "/music/album 99999/mix.wav"


def test_made_ids_depend_on_where_a_file_lies_and_not_on_how_it_is_written():
    written = (("a.wav", "/music"), ("./a.wav", "/music"), ("/music/a.wav", "/other"), ("../music/a.wav", "/other"))
    ids_of = [column(manifest.check(pa.table({"uri": [uri]}), "m", folder).tracks, "id") for uri, folder in written]
    assert ids_of == [ids_of[0]] * len(written)
    (elsewhere,) = column(manifest.check(pa.table({"uri": ["a.wav"]}), "m", "s3://songs").tracks, "id")
    assert elsewhere != ids_of[0][0]


def test_an_empty_id_is_made():
    first, second = column(checked(uri=["a.wav", "b.wav"], id=["", None]).tracks, "id")
    assert first == ids.made_id("/music/a.wav", None, None)
    assert second == ids.made_id("/music/b.wav", None, None)


def test_rows_that_repeat_another_are_one_track_with_a_counted_warning():
    found = checked(uri=["a.wav", "b.wav", "a.wav", "a.wav"], n=[1, 2, 3, 4])
    assert column(found.tracks, "uri") == ["/music/a.wav", "/music/b.wav"]
    assert extra(found.tracks) == [{"n": 1}, {"n": 2}]
    (warning,) = found.warnings
    assert warning.startswith("2 rows repeat another")


def test_rows_that_repeat_another_with_its_id_are_one_track_too():
    found = checked(uri=["a.wav", "a.wav"], id=["x", "x"], offset_s=[1.0, 1.0])
    assert found.tracks.num_rows == 1
    assert len(found.warnings) == 1


def test_nan_is_no_offset():
    assert column(checked(uri=["a.wav"], offset_s=[float("nan")]).tracks, "offset_s") == [None]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"uri": ["a.wav", "b.wav"], "id": ["x", "x"]}, "row 2: id x is also the id of row 1"),
        ({"uri": ["a.wav", "a.wav"], "id": ["x", "x"], "offset_s": [1.0, 2.0]}, "row 2: id x is also the id of row 1"),
        ({"uri": ["a.wav", "a.wav"], "id": ["x", "x"], "duration_s": [1.0, None]}, "row 2: id x is also the id of row 1"),
        ({"uri": ["a.wav", "b.wav"], "id": ["Song", "song"]}, "row 2: id song differs from Song only in case"),
        ({"uri": ["a.wav"], "id": ["a/b"]}, "row 1: id 'a/b', expected 1 to 200 of A-Za-z0-9._-"),
        ({"uri": ["a.wav"], "id": ["a b"]}, "row 1: id 'a b'"),
        ({"uri": ["a.wav"], "id": [".a"]}, "row 1: id '.a'"),
        ({"uri": ["a.wav"], "id": [".."]}, "row 1: id '..'"),
        ({"uri": ["a.wav"], "id": ["a\n"]}, "row 1: id 'a\\n'"),
        ({"uri": ["a.wav"], "id": ["\u00e9"]}, "row 1: id '\u00e9'"),
        ({"uri": ["a.wav"], "id": ["a" * 201]}, "row 1: id 'aaa"),
        ({"uri": ["a.wav", None]}, "row 2: no uri"),
        ({"uri": ["a.wav", ""]}, "row 2: no uri"),
        ({"uri": ["a.wav", "  "]}, "row 2: no uri"),
        ({"uri": ["a.wav"], "offset_s": [-0.1]}, "row 1: offset_s -0.1, expected 0 or more"),
        ({"uri": ["a.wav"], "offset_s": [float("inf")]}, "row 1: offset_s inf"),
        ({"uri": ["a.wav"], "duration_s": [0.0]}, "row 1: duration_s 0.0, expected more than 0"),
        ({"uri": ["a.wav"], "duration_s": [-1.0]}, "row 1: duration_s -1.0"),
        ({"uri": ["a.wav"], "duration_s": [float("inf")]}, "row 1: duration_s inf"),
        ({"uri": ["a.wav", "b.wav"], "offset_s": ["1", "soon"]}, "row 2: offset_s 'soon', expected a number of seconds, as 90.5"),
        ({"uri": ["a.wav"], "duration_s": ["1,5"]}, "row 1: duration_s '1,5', expected a number"),
    ],
)
def test_a_bad_row_is_refused_with_its_number(columns, problem):
    message = refusal(**columns)
    assert message.startswith("manifest songs.parquet: 1 bad row: ")
    assert problem in message


def test_ids_of_the_longest_length_and_of_every_sign_are_accepted():
    ids = ["a" * 200, "AZaz09._-", "-", "_", "0"]
    assert column(checked(uri=list("abcde"), id=ids).tracks, "id") == ids


def test_of_many_bad_rows_the_first_twenty_are_shown_and_all_are_counted():
    message = refusal(uri=[None] * 50)
    assert "50 bad rows" in message
    assert message.count("no uri") == 20
    assert "row 20:" in message
    assert "row 21:" not in message


def test_a_manifest_without_uris_is_refused_with_the_columns_it_has():
    message = refusal(artist=["x"], song=["y"])
    assert "no uri column; found artist, song, expected uri or url or" in message


def test_a_manifest_with_a_column_twice_is_refused():
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["uri", "uri"])
    with pytest.raises(errors.ManifestError, match="more than one column uri"):
        manifest.check(table, "m", "/music")


@pytest.mark.parametrize("columns", [{"offset_s": [{"a": 1}]}, {"duration_s": [[1.0]]}])
def test_a_column_of_another_type_is_refused_by_name(columns):
    (name,) = columns
    assert f"column {name}: found" in refusal(uri=["a.wav"], **columns)


def test_a_further_column_of_a_name_that_the_index_has_is_carried_under_another_with_a_warning():
    found = checked(uri=["a.wav"], status=["mastered"], Model=["x"], genre=["rock"])
    assert extra(found.tracks) == [{"manifest_status": "mastered", "manifest_Model": "x", "genre": "rock"}]
    assert sorted(warning.split()[1] for warning in found.warnings) == ["Model", "status"]
    assert "manifest_status" in " ".join(found.warnings)


def test_a_further_column_of_a_name_that_the_merging_needs_is_carried_under_another():
    assert extra(checked(uri=["a.wav"], file_row_number=[3]).tracks) == [{"manifest_file_row_number": 3}]


def test_names_of_further_columns_stay_different_once_they_are_carried():
    found = checked(uri=["a.wav"], status=["x"], manifest_status=["y"])
    (carried,) = extra(found.tracks)
    assert sorted(carried.values()) == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("songs.parquet", "no parquet", "not readable as Parquet"),
        ("songs.csv", "uri,id\na.wav\nb.wav,2,3\n", "not readable as CSV"),
        ("songs.jsonl", "{", "not readable as JSONL"),
        ("songs.doc", "a.wav", "neither a manifest"),
        ("noextension", "a.wav", "neither a manifest"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_and_says_so(tmp_path, name, text, named):
    uri = write_text(tmp_path / name, text)
    with pytest.raises(errors.ManifestError, match=named) as caught:
        manifest.read(uri)
    assert uri in str(caught.value)


@pytest.mark.parametrize("name", ["absent.csv", "absent.wav", "absent"])
def test_a_manifest_that_is_not_there_is_refused_by_name(tmp_path, name):
    with pytest.raises(errors.ManifestError, match=f"{name}: not found"):
        manifest.read(str(tmp_path / name))


@pytest.fixture
def music(tmp_path):
    for name in ("b.wav", "a.FLAC", "deep/c.mp3", "notes.txt", ".hidden.wav", ".trash/d.wav", "deep/[x] e.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    return tmp_path


SONGS = ["a.FLAC", "b.wav", "deep/[x] e.ogg", "deep/c.mp3"]


def test_a_folder_stands_for_the_audio_it_holds(music):
    found = manifest.read(str(music) + "/")
    assert column(found.tracks, "uri") == [f"{music}/{song}" for song in SONGS]
    assert column(found.tracks, "id") == [ids.made_id(f"{music}/{song}", None, None) for song in SONGS]


def test_a_folder_in_memory_stands_for_the_audio_it_holds():
    storage.put("memory://shelf/b.wav", b"x")
    storage.put("memory://shelf/deep/a.wav", b"x")
    tracks = manifest.read("memory://shelf").tracks
    assert column(tracks, "id") == [ids.made_id(f"memory://shelf/{song}", None, None) for song in ("b.wav", "deep/a.wav")]
    assert all(storage.exists(uri) for uri in column(tracks, "uri"))


def test_an_audio_file_stands_for_itself(music):
    tracks = manifest.read(str(music / "b.wav")).tracks
    assert column(tracks, "uri") == [str(music / "b.wav")]
    assert column(tracks, "id") == [ids.made_id(f"{music}/b.wav", None, None)]


def test_a_folder_without_audio_is_refused_with_what_it_holds(tmp_path):
    with pytest.raises(errors.ManifestError, match="^found no audio in .*: no files$"):
        manifest.read(str(tmp_path))
    for name in ("a.jpg", "b.JPG", "c.nfo", "README", ".DS_Store", "x/.git/config"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    said = r"found no audio in .*: 4 other files \(\.jpg 2, no extension 1, \.nfo 1\), 2 hidden files; --include '\*\.EXT' lists"
    with pytest.raises(errors.ManifestError, match=said):
        manifest.read(str(tmp_path))


def test_a_folder_tells_what_it_leaves_out_and_which_manifests_lie_beside_its_audio(music):
    found = manifest.read(str(music))
    assert found.warnings == ("left out: 1 other file (.txt 1), 2 hidden files",)
    (music / "songs.csv").write_text("uri\na.wav\n")
    told = manifest.read(str(music))
    assert column(told.tracks, "uri") == column(found.tracks, "uri")
    assert told.warnings[1] == (
        f"1 manifest file beside audio, not read: songs.csv; to run one, name it: sep-batch run {music}/songs.csv"
    )


def test_patterns_choose_the_files_of_a_folder_and_are_remembered(music):
    found = manifest.read(str(music), include=["*.wav", "*.txt"], exclude=["b*"])
    assert column(found.tracks, "uri") == [f"{music}/notes.txt"]
    assert found.warnings == ("left out: 2 hidden files, 4 files by --include and --exclude",)
    again = manifest.read(found.uri, **json.loads(json.dumps(found.read_with)))
    assert again.tracks.equals(found.tracks)


def test_a_pattern_that_matches_no_file_is_told(music):
    found = manifest.read(str(music), exclude=["*.falc", "deep"])
    assert column(found.tracks, "uri") == [f"{music}/a.FLAC", f"{music}/b.wav"]
    assert found.warnings[1:] == ("--exclude *.falc: matches no file",)
    with pytest.raises(errors.ManifestError, match=r"found no audio .*5 files by --include; --include \*\.falc: matches no file"):
        manifest.read(str(music), include=["*.falc"])


@pytest.mark.parametrize("name", ["songs.csv", "b.wav", "lists"])
def test_patterns_are_refused_where_nothing_is_listed(music, name):
    (music / "songs.csv").write_text("uri\na.wav\n")
    (music / "lists").mkdir()
    (music / "lists" / "songs.csv").write_text("uri\na.wav\n")
    with pytest.raises(errors.UsageError, match=f"--exclude: .*{name} .*; patterns choose files of a folder"):
        manifest.read(f"{music}/{name}", exclude=["x"])


def test_a_pattern_in_place_of_a_folder_is_told_how_to_say_it(music):
    with pytest.raises(errors.ManifestError, match=rf"not found; to list files by a pattern: {music}/deep/ --include '\*\.mp3'"):
        manifest.read(f"{music}/deep/*.mp3")


@pytest.mark.parametrize("text", ["2026-11-23T05:36:20+00:00", "2026-11-23", "2026-11-23T05:36:20.5+00:00", "007"])
@pytest.mark.parametrize("name", ["m.csv", "m.jsonl"])
def test_what_is_text_stays_text_whatever_it_looks_like(tmp_path, name, text):
    row = {"id": text[:10], "uri": "a.wav", "source_etag": text}
    content = json.dumps(row) if name.endswith("jsonl") else f"{','.join(row)}\n{','.join(row.values())}"
    tracks = manifest.read(write_text(tmp_path / name, f"{content}\n")).tracks
    assert (column(tracks, "id"), column(tracks, "source_etag")) == ([text[:10]], [text])


def test_a_manifest_in_json_lines_keeps_numbers_and_lists(tmp_path):
    rows = [{"uri": "a.wav", "tags": ["x", "y"], "bpm": 120.5}, {"uri": "b.wav", "tags": [], "bpm": None}]
    uri = write_text(tmp_path / "m.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert extra(manifest.read(uri).tracks) == [{"tags": ["x", "y"], "bpm": 120.5}, {"tags": [], "bpm": None}]


def test_columns_of_views_are_plain_ones(tmp_path):
    columns = {"uri": pa.array(["a.wav", "b.wav"], pa.string_view()), "text": pa.array(["x", None], pa.string_view())}
    pyarrow.parquet.write_table(pa.table(columns | {"bytes": pa.array([b"1", b"2"], pa.binary_view())}), tmp_path / "m.parquet")
    extra = manifest.read(str(tmp_path / "m.parquet")).tracks.slice(1).column("extra")
    assert extra.to_pylist() == [{"text": None, "bytes": b"2"}]
    assert extra.type == pa.struct([("text", pa.string()), ("bytes", pa.binary())])
