"""A sample of a manifest's tracks: stable, growing, even, in the manifest's order."""

from __future__ import annotations

import pyarrow as pa

from sep_batch.pipeline.manifest.sample import chosen, drawn

IDS = [f"track-{number}" for number in range(2000)]


def table(ids):
    return pa.table({"id": pa.chunked_array([ids[: len(ids) // 3], ids[len(ids) // 3 :]])})


def ids_of(tracks):
    return tracks.column("id").to_pylist()


def test_a_sample_has_as_many_tracks_in_the_order_of_the_manifest():
    sample = ids_of(drawn(table(IDS), 200))
    assert len(sample) == len(set(sample)) == 200
    assert sample == sorted(sample, key=IDS.index)


def test_a_sample_is_the_same_whatever_the_order_and_holds_every_smaller_one():
    sample = set(ids_of(drawn(table(IDS), 200)))
    assert set(ids_of(drawn(table(IDS[::-1]), 200))) == sample
    assert set(ids_of(drawn(table(IDS), 50))) < sample < set(ids_of(drawn(table(IDS), 201)))


def test_a_track_that_is_new_in_the_manifest_displaces_one_of_the_sample_at_most():
    before, after = (set(ids_of(drawn(table(ids), 200))) for ids in (IDS[:-1], IDS))
    assert len(before - after) <= 1


def test_a_sample_is_spread_over_the_whole_manifest():
    positions = [IDS.index(id) for id in ids_of(drawn(table(IDS), 400))]
    for begin in range(0, 2000, 500):
        assert 60 < sum(begin <= position < begin + 500 for position in positions) < 140


def test_a_sample_of_more_tracks_than_there_are_is_all():
    assert drawn(table(IDS[:5]), 6).equals(table(IDS[:5]))


def test_a_limit_takes_the_first_tracks_and_no_choice_all():
    tracks = table(IDS)
    assert ids_of(chosen(tracks, 3, None)) == IDS[:3]
    assert chosen(tracks, None, None).equals(tracks)
    assert chosen(tracks, None, 7).equals(drawn(tracks, 7))
