"""The plan of an export: pure, in shards of one size, each track in one split, nothing left out that may be wanted."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sep_batch.pipeline import errors
from sep_batch.pipeline.export import excerpts, splits
from sep_batch.pipeline.export.settings import ExportSettings


def settings(**changed):
    known = {
        "to": "parquet",
        "where": None,
        "stems": ("vocals",),
        "excerpt_s": 2.0,
        "hop_s": 1.0,
        "min_active": {},
        "sample_rate_hz": None,
        "mono": False,
        "codec": "flac",
        "splits": {"train": 1.0},
        "group_by": None,
        "shard_size": 4,
        "seed": 0,
        "with_mix": False,
        "limit": None,
    }
    return ExportSettings(**known | changed)


def row(name, seconds=5.0, regions=None, group=None):
    stem = {"stem": "vocals", "uri": f"stems/{name}.flac", "bytes": 1, "sha256": "", "frames": round(seconds * 100)}
    found = None if regions is None else [{"start_s": start, "end_s": end} for start, end in regions]
    known = {"id": name, "uri": name, "offset_s": 0.0, "source_bytes": 1, "name": name, "group": group}
    return known | {"audio_s": seconds, "stems": [stem | {"active_regions": found}]}


def laid(rows, **changed):
    return [
        (shard["split"], shard["shard"], [(track["id"], track["numbers"]) for track in shard["tracks"]])
        for shard in excerpts.lay_out(rows, settings(**changed))
    ]


def test_a_track_is_cut_where_a_shard_is_full():
    assert laid([row("a", 5.0), row("b", 3.0), row("c", 1.9)]) == [
        ("train", 0, [("a", [0, 1, 2, 3])]),
        ("train", 1, [("b", [0, 1])]),
    ]
    assert laid([row("a", 7.0), row("b", 3.0)], shard_size=3)[1] == ("train", 1, [("a", [3, 4, 5])])


def test_whole_tracks_are_counted_as_tracks():
    rows = [row(name) for name in "abc"]
    assert laid(rows, excerpt_s=None, hop_s=None, shard_size=2) == [
        ("train", 0, [("a", []), ("b", [])]),
        ("train", 1, [("c", [])]),
    ]


@pytest.mark.parametrize(
    ("seconds", "length", "hop", "expected"), [(10, 10, 10, 1), (9.99, 10, 10, 0), (1, 0.1, 0.1, 10), (4, 2, 0.5, 5)]
)
def test_only_whole_excerpts_count(seconds, length, hop, expected):
    assert excerpts.count(seconds, length, hop) == expected


def test_the_index_leaves_out_what_is_silent_and_a_wide_edge_around_what_is_not():
    regions = [(10.0, 12.0)]
    ((_, _, [(_, numbers)]),) = laid([row("a", 20.0, regions)], min_active={"vocals": 0.9}, shard_size=99)
    assert numbers == [10]
    ((_, _, [(_, numbers)]),) = laid([row("a", 20.0, regions)], min_active={"vocals": 0.5}, shard_size=99)
    assert numbers == [9, 10, 11]
    assert laid([row("a", 20.0, [])], min_active={"vocals": 0.1}) == []
    ((_, _, [(_, numbers)]),) = laid([row("a", 20.0)], min_active={"vocals": 0.9}, shard_size=99)
    assert len(numbers) == 19, "an index that knows nothing leaves nothing out"


def test_regions_that_touch_once_widened_are_one():
    assert excerpts.widened([{"start_s": 1.0, "end_s": 2.0}, {"start_s": 2.8, "end_s": 3.0}, {"start_s": 9.0, "end_s": 9.5}]) == [
        (0.5, 3.5),
        (8.5, 10.0),
    ]


def test_a_plan_is_the_same_again_and_another_where_a_stem_is():
    rows = [row(name) for name in "abc"]
    before = excerpts.amounts(rows, pa.schema([]), settings())
    assert before == excerpts.amounts(rows, pa.schema([]), settings())
    assert (before.shards, before.planned) == (3, 12)
    rows[1]["stems"][0]["sha256"] = "other"
    assert excerpts.amounts(rows, pa.schema([]), settings()).sha256 != before.sha256


def test_shares_of_groups_come_out_as_asked_and_more_tracks_change_none():
    bounds = splits.bounds_of(splits.shares("0.8/0.1/0.1"))
    of = {number: splits.split_of(splits.group_of(f"t{number}", f"g{number}"), 3, bounds) for number in range(4000)}
    counts = [sum(split == name for split in of.values()) / 4000 for name in ("train", "validation", "test")]
    assert counts == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
    assert splits.split_of("group g7", 3, bounds) == of[7]


@pytest.mark.parametrize("text", ["", "a/b", "0.5", "0.5/0.4", "1.1/-0.1", "0.25/0.25/0.25/0.25"])
def test_shares_that_are_none_are_refused(text):
    with pytest.raises(errors.UsageError, match="expected one to three shares"):
        splits.shares(text)


def test_a_blank_group_is_none_and_a_track_is_no_group():
    assert splits.group_of("t", " ") == splits.group_of("t", None) != splits.group_of("u", None)
    assert splits.group_of("t", "t") != splits.group_of("t", None)
