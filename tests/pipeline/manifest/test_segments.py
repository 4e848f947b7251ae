"""Which part of a file a row of a manifest is: by our columns, by NeMo's, and where only by columns that are not read."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sep_batch.pipeline import errors, manifest
from sep_batch.pipeline.rows import EXTRA


def checked(**columns):
    return manifest.check(pa.table(columns), "songs.jsonl", "/music")


def parts(found):
    return found.tracks.select(["offset_s", "duration_s"]).to_pydict()


def test_nemos_offset_and_duration_are_a_segment():
    found = checked(audio_filepath=["a.wav"] * 3, offset=[0.0, 1.0, 2.0], duration=[1.0, 1.5, None], text=["x"] * 3)
    assert parts(found) == {"offset_s": [0.0, 1.0, 2.0], "duration_s": [1.0, 1.5, None]}
    assert len(set(found.tracks.column("id").to_pylist())) == 3
    assert found.tracks.column(EXTRA).to_pylist() == [{"text": "x"}] * 3
    assert found.warnings == ()


@pytest.mark.parametrize("offset", [{}, {"offset": [None, None]}, {"offset": [float("nan"), None]}])
def test_nemos_duration_without_an_offset_is_no_limit_and_is_carried(offset):
    found = checked(audio_filepath=["a.wav", "b.wav"], duration=[1.23, None], **offset)
    assert parts(found) == {"offset_s": [None, None], "duration_s": [None, None]}
    assert [row["duration"] for row in found.tracks.column(EXTRA).to_pylist()] == [1.23, None]


def test_nemos_rows_with_and_without_an_offset_are_told_apart():
    found = checked(audio_filepath=["a.wav", "a.wav"], offset=[None, 1.0], duration=[3.3, 1.0])
    assert parts(found) == {"offset_s": [None, 1.0], "duration_s": [None, 1.0]}
    assert found.tracks.column(EXTRA).to_pylist() == [{"duration": 3.3}, {"duration": None}]


def test_a_bad_offset_of_nemo_is_named_as_nemo_does():
    with pytest.raises(manifest.BadRowsError, match="row 1: offset -1.0, expected 0 or more.*row 2: duration 0.0, expected more"):
        checked(audio_filepath=["a.wav", "b.wav"], offset=[-1.0, 0.0], duration=[1.0, 0.0])


def test_our_own_columns_win_over_nemos_which_are_carried():
    found = checked(audio_filepath=["a.wav"], offset=[1.0], duration=[2.0], offset_s=[5.0])
    assert parts(found) == {"offset_s": [5.0], "duration_s": [None]}
    assert found.tracks.column(EXTRA).to_pylist() == [{"offset": 1.0, "duration": 2.0}]


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        ({"offset": [0.0, 1.0]}, "rename offset to offset_s, the seconds to skip"),
        ({"offset": [0.0, 1.0], "duration": [1.0, 1.0]}, "rename offset to offset_s.*; rename duration to duration_s"),
        ({"start": [0, 1], "end": [1, 2]}, "rename start to offset_s.*replace end by duration_s"),
        ({"start_time": ["0", "1"]}, "rename start_time to offset_s"),
        ({"duration": [1.0, 2.0]}, "rename duration to duration_s, the seconds to separate"),
        ({"start_s": [0.0, None], "id": ["x", "y"]}, "rename start_s to offset_s"),
    ],
)
def test_rows_that_differ_only_in_a_segment_that_is_not_read_are_refused_with_a_hint(columns, hint):
    with pytest.raises(errors.ManifestError, match=f"songs.jsonl: rows of one file differ in .*{hint}"):
        checked(uri=["a.wav", "a.wav"], **columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"uri": ["a.wav", "b.wav"], "start": [0.0, 1.0]},
        {"uri": ["a.wav", "a.wav"], "start": [0.0, 1.0], "offset_s": [0.0, 1.0]},
        {"uri": ["a.wav", "a.wav"], "start": [0.0, 0.0]},
        {"uri": ["a.wav", "a.wav"], "start": [[0.0], [1.0]]},
    ],
)
def test_columns_that_seem_to_be_segments_are_carried_where_no_track_depends_on_them(columns):
    assert {field.name for field in checked(**columns).tracks.schema.field(EXTRA).type} == {"start"}


def test_an_end_that_is_not_read_beside_a_beginning_that_is_makes_a_warning():
    found = checked(uri=["a.wav", "a.wav"], offset_s=[0.0, 1.0], end=[1.0, 2.0])
    assert found.warnings == (
        "column end is not read, so each track lasts to the end of its file; to limit tracks, give duration_s",
    )
    assert checked(uri=["a.wav", "b.wav"], duration=[1.0, 2.0]).warnings == ()
    assert checked(uri=["a.wav"], offset_s=[0.0], duration_s=[1.0], duration=[9.0]).warnings == ()


def test_rows_that_repeat_another_name_the_columns_of_which_only_the_first_is_kept():
    nan = float("nan")
    found = checked(uri=["a.wav"] * 3, tags=[["x"], ["x"], ["y"]], mood=["sad", None, "sad"], same=[nan] * 3, key=[1, 1, 1])
    (warning,) = found.warnings
    assert warning.endswith("are left out; they differ in tags, mood, of which the first row's value is kept")
    assert found.tracks.column(EXTRA).to_pylist()[0]["mood"] == "sad"
    (warning,) = checked(uri=["a.wav", "a.wav"], n=[1, 1]).warnings
    assert warning.endswith("are left out")
