from __future__ import annotations

import pyarrow as pa
import pytest

from sep_batch.jobs.run.breaker import IN_A_ROW, Breaker
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.rows import JOURNAL, TRACK, fill
from sep_batch.pipeline.storage import retries

OUT = "memory://breaker/out"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.0)


def row(name, uri="s3://in/x.wav", error=None):
    """Return a finished row: ok, or failed with an error."""
    track = pa.Table.from_pylist([{"id": name, "uri": uri, "attempts": 1}], schema=TRACK)
    return fill(track, JOURNAL, **(errors.describe(error, "decode") if error else {"status": "ok"}))


def names(tables):
    return [name for table in tables for name in table.column("id").to_pylist()]


DENIED, LATE = errors.AccessDenied("no"), errors.FetchTimeout("late")
NO_BUCKET, UNWRITTEN, FULL = errors.StorageUnusable("NoSuchBucket"), errors.WriteFailed("lost"), errors.OutUnusable("full")
BROKEN, MISSING = errors.DecodeError("torn"), errors.NotFound("gone")


def test_what_is_no_failure_of_storage_goes_through_at_once():
    breaker = Breaker(OUT)
    rows = pa.concat_tables([row("a"), row("b", error=BROKEN), row("c", error=MISSING)])
    assert names(breaker.take(rows)) == ["a", "b", "c"]


@pytest.mark.parametrize("error", [DENIED, LATE])
def test_a_failed_fetch_is_held_until_another_track_of_that_bucket_got_through(error):
    breaker = Breaker(OUT)
    assert names(breaker.take(row("a", error=error))) == []
    assert names(breaker.take(row("b", "s3://other/x.wav"))) == ["b"]
    assert names(breaker.take(row("c", error=BROKEN))) == ["a", "c"]


def test_a_failed_write_is_held_until_another_track_was_written():
    breaker = Breaker(OUT)
    assert names(breaker.take(row("a", error=UNWRITTEN))) == []
    assert names(breaker.take(row("b", error=BROKEN))) == ["b"]
    assert names(breaker.take(row("c"))) == ["a", "c"]


@pytest.mark.parametrize("error", [DENIED, LATE, UNWRITTEN])
def test_so_many_in_a_row_end_the_run(error):
    breaker = Breaker(OUT)
    for number in range(IN_A_ROW - 1):
        assert breaker.take(row(f"a{number}", error=error)) == []
    with pytest.raises(errors.NotRunnableError, match=f"{IN_A_ROW} tracks in a row failed at"):
        breaker.take(row("last", error=error))


def test_a_track_that_gets_through_begins_the_count_anew():
    breaker = Breaker(OUT)
    for round_ in range(3):
        for number in range(IN_A_ROW - 1):
            breaker.take(row(f"{round_}-{number}", error=LATE))
        assert len(names(breaker.take(row(f"{round_}-ok")))) == IN_A_ROW


def test_a_storage_that_was_usable_and_is_not_any_more_ends_the_run_at_once():
    breaker = Breaker(OUT)
    breaker.take(row("a"))
    with pytest.raises(errors.NotRunnableError, match="NoSuchBucket"):
        breaker.take(row("b", error=NO_BUCKET))


def test_a_full_disk_ends_the_run_at_once():
    with pytest.raises(errors.NotRunnableError, match="full"):
        Breaker(OUT).take(row("a", error=FULL))


def test_a_bucket_that_is_not_there_is_its_tracks_fault_where_others_are():
    breaker = Breaker(OUT)
    assert breaker.take(row("a", "s3://typo/x.wav", NO_BUCKET)) == []
    breaker.take(row("b"))
    assert names(breaker.rest()) == ["a"]


def test_a_bucket_that_is_not_there_ends_a_run_of_nothing_else():
    breaker = Breaker(OUT)
    breaker.take(row("a", error=NO_BUCKET))
    with pytest.raises(errors.NotRunnableError, match="NoSuchBucket"):
        breaker.rest()


def test_a_file_that_may_not_be_read_is_its_own_fault():
    assert names(Breaker(OUT).take(row("a", "/music/x.wav", DENIED))) == ["a"]


def test_at_the_end_a_storage_that_answers_lets_the_held_rows_through():
    breaker = Breaker(OUT)
    storage.put("memory://in/x.wav", b"x")
    breaker.take(pa.concat_tables([row("a", "memory://in/x.wav", LATE), row("b", error=UNWRITTEN)]))
    assert names(breaker.rest()) == ["a", "b"]
    assert list(storage.find(OUT)) == []


def test_at_the_end_a_storage_that_does_not_answer_ends_the_run(monkeypatch):
    def lost(uri, *_):
        raise errors.FetchTimeout(f"{uri}: lost")

    breaker = Breaker(OUT)
    breaker.take(row("a", error=LATE))
    monkeypatch.setattr(storage, "exists", lost)
    with pytest.raises(errors.NotRunnableError, match="does not answer: s3://in/x.wav"):
        breaker.rest()
