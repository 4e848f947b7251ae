"""The plan: what is left to do and why, and how it travels to the flow."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from sep_batch.pipeline import manifest, storage
from sep_batch.pipeline.out import plan as planning
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import blocks_per_file, changes, read_plan, rows_per_block, vanished, write_plan
from sep_batch.pipeline.rows import EXTRA, JOURNAL, TRACK

SETTINGS = "a" * 64


def column(tracks, name):
    return tracks.column(name).to_pylist()


def extra(tracks):
    return column(tracks, EXTRA)


def checked(**columns):
    return manifest.check(pa.table(columns), "songs.parquet", "/music")


def tracks_of(*ids, etag=None):
    return checked(uri=[f"{id}.wav" for id in ids], id=list(ids), source_etag=pa.array([etag] * len(ids), pa.string())).tracks


def was(status="ok", **changes):
    usual = {
        "status": status,
        "uri": "/music/a.wav",
        "offset_s": None,
        "duration_s": None,
        "source_etag": None,
        "settings_sha256": SETTINGS,
        "transient": False,
        "attempts": 1,
    }
    return usual | changes


def journal_of(past):
    """Return a journal with these rows, by id."""
    connection = duckdb.connect()
    connection.register("newest", pa.Table.from_pylist([{"id": id} | row for id, row in past.items()], JOURNAL))
    return JournalDatabase(connection, len(past), {}, Path())


def make_plan(tracks, past, settings_sha256, retry):
    return planning.make_plan(tracks, journal_of(past), settings_sha256, retry)


def test_a_plan_without_a_past_is_the_whole_manifest():
    plan = make_plan(tracks_of("a", "b"), {}, SETTINGS, "transient")
    assert (column(plan.tracks, "id"), plan.counts) == (["a", "b"], {"new": 2})
    assert plan.tracks.schema.equals(TRACK)


def test_what_is_done_is_subtracted_and_the_rest_keeps_its_order_and_columns():
    tracks = checked(uri=["c.wav", "a.wav", "b.wav"], id=["c", "a", "b"], n=[3, 1, 2]).tracks
    plan = make_plan(tracks, {"a": was(), "z": was(uri="/music/z.wav")}, SETTINGS, "transient")
    assert (column(plan.tracks, "id"), list(plan.reasons)) == (["c", "b"], ["new", "done", "new"])
    assert extra(plan.tracks) == [{"n": 3}, {"n": 2}]


@pytest.mark.parametrize("status", ["ok", "failed"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"settings_sha256": "b" * 64}, "settings_differ"),
        ({"uri": "/music/other.wav", "source_etag": "yesterday"}, "source_changed"),
        ({"uri": "/music/other.wav", "source_etag": None}, "source_changed"),
        ({"offset_s": 0.0}, "source_changed"),
        ({"duration_s": 5.0}, "source_changed"),
        ({"source_etag": "yesterday"}, "source_changed"),
        ({"uri": "/music/other.wav", "settings_sha256": "b" * 64}, "settings_differ"),  # it moved
    ],
)
def test_a_track_that_is_not_what_it_was_is_done_again_from_the_first_attempt(status, changes, reason):
    past = {"a": was(status, source_etag="today", attempts=3)}
    tracks = tracks_of("a", etag="today")
    assert make_plan(tracks, past, SETTINGS, "none").tracks.num_rows == 0
    past = {"a": was(status, **{"source_etag": "today", "attempts": 3} | changes)}
    plan = make_plan(tracks, past, SETTINGS, "none")
    assert (column(plan.tracks, "id"), column(plan.tracks, "attempts"), plan.reasons) == (["a"], [0], [reason])


@pytest.mark.parametrize("etags", [("then", "then 9"), ("then 9", "then"), ("then 9", "then 9")])
def test_a_time_alone_is_the_etag_of_before_of_a_time_and_a_size(etags):
    plan = make_plan(tracks_of("a", etag=etags[0]), {"a": was(source_etag=etags[1], source_bytes=9)}, SETTINGS, "none")
    assert plan.reasons == ["done"]


@pytest.mark.parametrize("etags", [("then 9", "then"), ("then", "then 9"), ("then 8", "then 9")])
def test_a_file_of_another_size_has_changed_though_its_time_has_not(etags):
    plan = make_plan(tracks_of("a", etag=etags[0]), {"a": was(source_etag=etags[1], source_bytes=8)}, SETTINGS, "none")
    assert plan.reasons == ["source_changed"]


def test_an_etag_that_the_manifest_does_not_give_is_not_compared():
    assert make_plan(tracks_of("a"), {"a": was(source_etag="any")}, SETTINGS, "transient").reasons == ["done"]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        ("gs://b/a.wav: Please install gcsfs to access Google Storage", True),
        ("az://b/a.wav: Install adlfs to access Azure Datalake Gen2 and Azure Blob Storage", True),
        ("Please install gcsfs to access Google Storage: scheme 'x', expected a path", False),
    ],
)
def test_what_failed_because_a_package_was_missing_is_tried_again(error, again):
    past = {"a": was("failed", transient=False, attempts=1, error_class="bad_uri", error=error)}
    for retry in ("transient", "suspect"):
        plan = make_plan(tracks_of("a"), past, SETTINGS, retry)
        assert plan.reasons == ["failed_before" if again else "known_failed"]


@pytest.mark.parametrize(
    ("retry", "transient", "attempts", "again"),
    [
        ("transient", True, 1, True),
        ("transient", True, 2, True),
        ("transient", True, 3, False),
        ("transient", False, 1, False),
        ("none", True, 1, False),
        ("none", False, 1, False),
        ("all", False, 1, True),
        ("all", True, 99, True),
    ],
)
def test_what_failed_is_tried_again_as_the_retry_says(retry, transient, attempts, again):
    past = {"a": was("failed", transient=transient, attempts=attempts)}
    plan = make_plan(tracks_of("a"), past, SETTINGS, retry)
    assert plan.reasons == ["failed_before" if again else "known_failed"]
    assert column(plan.tracks, "attempts") == ([attempts] if again else [])


@pytest.mark.parametrize(
    ("changes", "is_suspect"),
    [
        ({}, False),
        ({"source_channels": 2, "skipped_packets": 0, "source_codec": "mp3float"}, False),
        ({"source_channels": 3}, True),
        ({"skipped_packets": 1}, True),
        *(({"source_codec": codec}, True) for codec in ("vorbis", "opus", "speex")),
        ({"source_codec": "flac"}, False),
        *(({"uri": f"/music/a.{ending}"}, True) for ending in ("ogg", "oga", "OGX", "opus", "spx", "oga?version=2")),
        ({"uri": "/music/ogg.flac"}, False),
        ({"source_channels": 6, "decode_rules": 1}, False),
        ({"source_codec": "vorbis", "decode_rules": 2}, False),
    ],
)
def test_what_older_rules_may_have_decoded_wrongly_is_suspect_and_done_again_where_that_is_asked_for(changes, is_suspect):
    row = was(**changes)
    tracks = checked(uri=[row["uri"]], id=["a"]).tracks
    for retry in ("none", "transient", "all"):
        assert make_plan(tracks, {"a": row}, SETTINGS, retry).reasons == ["done_suspect" if is_suspect else "done"]
    plan = make_plan(tracks, {"a": row | {"attempts": 3}}, SETTINGS, "suspect")
    assert (plan.reasons, plan.todo) == (["suspect"], 1) if is_suspect else (["done"], 0)
    assert column(plan.tracks, "attempts") == [0] * is_suspect
    failed = row | {"status": "failed", "transient": True}
    assert make_plan(tracks, {"a": failed}, SETTINGS, "suspect").reasons == ["failed_before"]
    assert make_plan(tracks, {"a": failed | {"transient": False}}, SETTINGS, "suspect").reasons == ["known_failed"]


def test_a_row_of_an_older_journal_that_does_not_count_attempts_is_of_one():
    past = {"a": was("failed", transient=True, attempts=None), "b": was("failed", uri="/music/b.wav", transient=None)}
    plan = make_plan(tracks_of("a", "b"), past, SETTINGS, "transient")
    assert (plan.reasons, column(plan.tracks, "attempts")) == (["failed_before", "known_failed"], [1])


def test_a_plan_of_many_blocks_keeps_order_and_attempts(monkeypatch):
    monkeypatch.setattr(planning, "ROWS_AT_ONCE", 3)
    ids = [f"{n:02}" for n in range(20)]
    failed = {id: was("failed", uri=f"/music/{id}.wav", transient=True, attempts=2) for id in ids[::3]}
    done = {id: was(uri=f"/music/{id}.wav") for id in ids[1::3]}
    plan = make_plan(tracks_of(*ids), failed | done, SETTINGS, "transient")
    assert column(plan.tracks, "id") == [id for id in ids if id not in done]
    assert column(plan.tracks, "attempts") == [2 if id in failed else 0 for id in ids if id not in done]
    assert (plan.todo, plan.counts) == (13, {"failed_before": 7, "done": 7, "new": 6})
    assert plan.column("uri").to_pylist() == column(plan.tracks, "uri")
    assert (plan.first("done")["id"], plan.first("new")["id"]) == ("01", "02")


def test_what_changed_of_a_source_is_named():
    (track,) = tracks_of("a", etag="today").to_pylist()
    assert changes(track, journal_of({"a": was(uri="/b.wav", offset_s=1.0, source_etag="today")})) == ["uri", "offset_s"]
    (track,) = tracks_of("a").to_pylist()
    assert changes(track, journal_of({"a": was(source_etag="today")})) == []


def test_what_was_separated_from_below_a_folder_and_is_not_listed_any_more_has_vanished():
    past = {id: was(uri=f"/music/{id}.wav") for id in "abc"} | {
        "d": was("failed", uri="/music/d.wav"),
        "e": was(uri="/musical/e"),
    }
    assert vanished(tracks_of("b"), ["/music/"], [], journal_of(past)) == ["a", "c"]


@pytest.mark.parametrize("retry", ["none", "transient", "all"])
def test_a_deleted_track_is_done_again_from_the_first_attempt_whatever_the_retry(retry):
    past = {"a": was("deleted", transient=True, attempts=3), "b": was("deleted", transient=False, attempts=1)}
    plan = make_plan(tracks_of("a", "b"), past, SETTINGS, retry)
    assert plan.counts == {"deleted": 2}
    assert (column(plan.tracks, "id"), column(plan.tracks, "attempts")) == (["a", "b"], [0, 0])


def test_a_plan_is_written_in_files_and_read_back(tmp_path):
    tracks = checked(uri=[f"{n}.wav" for n in range(10)], n=list(range(10))).tracks
    uris = write_plan(
        [tracks.slice(0, 3), tracks.slice(3, 0), tracks.slice(3)], storage.put, str(tmp_path / "plan"), rows_per_file=4
    )
    assert [uri.rpartition("/")[2] for uri in uris] == ["000000.parquet", "000001.parquet", "000002.parquet"]
    blocks = [read_plan(uri) for uri in uris]
    assert [block.num_rows for block in blocks] == [4, 4, 2]
    assert pa.concat_tables(blocks).equals(tracks)


@pytest.mark.parametrize(
    ("todo", "actors", "rows"), [(1, 1, 1), (0, 1, 1), (8, 1, 2), (9, 1, 3), (256, 1, 64), (10_000_000, 100, 64), (100, 100, 1)]
)
def test_blocks_are_small_enough_that_every_actor_has_its_share(todo, actors, rows):
    assert rows_per_block(todo, actors) == rows


@pytest.mark.parametrize(
    ("blocks", "in_a_file"), [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (15_625, 16), (64_000, 64), (156_250, 64), (10_000_000, 64)]
)
def test_a_small_plan_has_a_file_a_block_and_a_large_one_files_of_a_megabyte(blocks, in_a_file):
    assert blocks_per_file(blocks) == in_a_file
