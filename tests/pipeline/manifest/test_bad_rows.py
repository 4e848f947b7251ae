"""Rows of a manifest that cannot be meant, where they are to fail: which track each becomes."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from sep_batch.pipeline import errors, manifest
from sep_batch.pipeline.rows import EXTRA, PROBLEM

MADE = re.compile(r"bad_row-[0-9a-f]{16}")


def failing(folder="/music", **columns):
    found = manifest.check(pa.table(columns), "songs.parquet", folder, bad_rows="fail").tracks
    return found.to_pylist()


def test_a_manifest_without_bad_rows_is_the_same_whatever_becomes_of_those():
    table = pa.table({"uri": ["a.wav", "b.wav", "a.wav"], "n": [1, 2, 1]})
    refusing, failing_ = (manifest.check(table, "m", "/music", bad_rows=what) for what in ("refuse", "fail"))
    assert failing_.tracks.equals(refusing.tracks)
    assert PROBLEM not in failing_.tracks.column_names


@pytest.mark.parametrize(
    ("bad", "problem", "uri"),
    [
        ({"uri": None}, "row 2: no uri", ""),
        ({"uri": "b.wav", "id": "AC/DC"}, "row 2: id 'AC/DC', expected 1 to 200", "/music/b.wav"),
        ({"uri": "b.wav", "id": "x"}, "row 2: id x is also the id of row 1", "/music/b.wav"),
        ({"uri": "b.wav", "id": "X"}, "row 2: id X differs from x only in case", "/music/b.wav"),
        ({"uri": "b.wav", "duration_s": "0"}, "row 2: duration_s 0.0, expected more than 0", "/music/b.wav"),
        ({"uri": "b.wav", "offset_s": "soon"}, "row 2: offset_s 'soon', expected a number", "/music/b.wav"),
        ({"uri": "s3://KEY:hush@bucket/b.wav"}, "row 2: s3://...: credentials", "s3://..."),
        ({"uri": "https://host/b.wav?sig=hush"}, "row 2: https://host/b.wav?...: https is read", "https://host/b.wav?..."),
        ({"uri": "C:\\b\n.wav"}, "U+000A", "C:\\b\\n.wav"),
    ],
)
def test_a_bad_row_becomes_a_track_with_what_is_wrong_and_the_others_stay(bad, problem, uri):
    rows = [{"uri": "a.wav", "id": "x"}, {"id": None} | bad, {"uri": "c.wav"}]
    columns = {name: [row.get(name) for row in rows] for name in ("uri", "id", "offset_s", "duration_s")}
    first, found, last = failing(**columns, n=[1, 2, 3])
    assert (first["id"], first["uri"], first[PROBLEM]) == ("x", "/music/a.wav", None)
    assert (last["uri"], last[PROBLEM]) == ("/music/c.wav", None)
    assert problem in found[PROBLEM]
    assert found["uri"] == uri
    assert MADE.fullmatch(found["id"])
    assert found[EXTRA] == {"n": 2}
    assert "hush" not in repr(found)


def test_a_bad_row_keeps_an_id_of_its_own_so_that_it_is_the_same_track_once_it_is_corrected():
    assert [row["id"] for row in failing(uri=[None, "b.wav"], id=["x", "y"])] == ["x", "y"]


@pytest.mark.parametrize("ids", [["x", "x"], ["X", "x"]])
def test_a_bad_row_leaves_its_id_to_another_row_that_has_it_before_or_after(ids):
    for uris in ([None, "b.wav"], ["b.wav", None]):
        found = {bool(row[PROBLEM]): row["id"] for row in failing(uri=uris, id=ids)}
        assert found[False] == ids[uris.index("b.wav")]
        assert MADE.fullmatch(found[True])


def test_made_ids_of_bad_rows_are_the_same_again_and_differ_even_between_rows_that_say_the_same():
    columns = {"uri": [None, None, None, "a.wav", "a.wav"], "duration_s": [None, None, None, 0.0, 0.0], "n": [1, 1, 2, 3, 4]}
    ids = [row["id"] for row in failing(**columns)]
    assert len(set(ids)) == 5
    assert [row["id"] for row in failing(**columns)] == ids
    before = {name: [None if name != "uri" else "new.wav", *values] for name, values in columns.items()}
    assert [row["id"] for row in failing(**before)][1:] == ids


def test_a_made_id_that_another_row_has_is_made_anew():
    (taken,) = [row["id"] for row in failing(uri=[None])]
    found = failing(uri=[None, "a.wav", None], id=[None, taken, taken])
    assert len({row["id"] for row in found}) == 3
    assert found[1]["id"] == taken


def test_of_a_hundred_thousand_rows_each_bad_one_is_named_and_no_other():
    count = 100_000
    uris = [None if n % 1000 == 7 else f"{n}.wav" for n in range(count)]
    found = manifest.check(pa.table({"uri": uris}), "m", "/music", bad_rows="fail").tracks
    problems = found.column(PROBLEM).to_pylist()
    assert [place for place, problem in enumerate(problems) if problem] == list(range(7, count, 1000))
    assert problems[99_007] == "row 99008: no uri"
    assert len(set(found.column("id").to_pylist())) == count


def test_a_manifest_whose_columns_are_not_clear_is_refused_all_the_same():
    for columns in ({"artist": ["x"]}, {"uri": [[1]]}, {"uri": ["a", "a"], "start": [0.0, 1.0]}):
        with pytest.raises(errors.ManifestError):
            failing(**columns)


def test_a_manifest_remembers_what_becomes_of_bad_rows(tmp_path):
    (tmp_path / "m.csv").write_text("uri,id\na.wav,x\n,y\n")
    found = manifest.read(str(tmp_path / "m.csv"), bad_rows="fail")
    again = manifest.read(found.uri, **found.read_with)
    assert again.tracks.equals(found.tracks)
    assert found.tracks.column(PROBLEM).to_pylist() == [None, "row 2: no uri"]
    with pytest.raises(manifest.BadRowsError, match="1 bad row: row 2: no uri"):
        manifest.read(found.uri)
