"""Compaction: no reader can tell, whatever is there and wherever it was killed."""

from __future__ import annotations

import contextlib
import io
import itertools
import random

import pyarrow as pa
import pyarrow.parquet
import pytest

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import compaction, database, index, layout
from sep_batch.pipeline.out.journal import new_run
from sep_batch.pipeline.rows import JOURNAL
from sep_batch.pipeline.storage import uris

RUNS = ("000001-aaaa", "000001-aaab", "000002-0000")


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Merge from two files on, so that few make a case."""
    monkeypatch.setattr(compaction, "FEWEST", 2)


@pytest.fixture(params=["disk", "memory"])
def out(request, tmp_path):
    return {"disk": str(tmp_path / "out"), "memory": f"memory://compaction-{tmp_path.name}/out"}[request.param]


def put(out, name, *rows, **columns):
    """Write a journal file of rows of (id, error)."""
    table = pa.Table.from_pylist([{"id": id, "uri": f"/{id}", "status": "ok", "error": error} for id, error in rows], JOURNAL)
    for column, value in columns.items():
        table = table.append_column(column, pa.array([value] * len(rows)))
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    storage.put(f"{layout.journal_folder(out)}/{name}.parquet", content.getvalue())


def catalog(out, *, runs=RUNS, files=4, seed=0):
    """Write a journal in which many ids have many rows, in files, across files and across runs."""
    drawn, number = random.Random(seed), itertools.count()
    for run in runs:
        for file in range(files):
            put(out, f"{run}-{file:06d}", *((f"t{drawn.randrange(12)}", str(next(number))) for _ in range(5)))


def newest(out):
    """Return the newest rows by id, as any reader finds them."""
    with database.opened(out) as journal:
        return dict(journal.database.sql("SELECT id, error FROM newest").fetchall())


def rows(out):
    with database.opened(out) as journal:
        return sorted(journal.database.sql("SELECT id, error FROM rows").fetchall())


def every_row_of_every_file(out):
    """Return the newest rows by the commit rule alone, for a reader that knows nothing of merged files."""
    found = {}
    for file in sorted(storage.find(layout.journal_folder(out)), key=lambda one: uris.name(one.uri)):
        table = pyarrow.parquet.read_table(io.BytesIO(storage.read(file.uri)))
        found |= dict(zip(table.column("id").to_pylist(), table.column("error").to_pylist(), strict=True))
    return found


def names(out):
    return [uris.name(found.uri).removesuffix(".parquet") for found in storage.find(layout.journal_folder(out))]


def compact(out, check=lambda: None):
    index.compact(out, "000009-ffff", check=check)


def test_many_files_of_a_run_become_one_and_go_with_the_next_call(out):
    catalog(out)
    before, all_rows = newest(out), rows(out)
    compact(out)
    merged = [f"{run}-000003-000000" for run in RUNS]
    assert len(names(out)) == 15
    assert compaction.needed(storage.find(layout.journal_folder(out))) == [
        f"{layout.journal_folder(out)}/{name}.parquet" for name in merged
    ]
    compact(out)
    assert names(out) == merged
    assert (newest(out), rows(out)) == (before, all_rows)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_there_of_merged_and_former_files_the_newest_rows_are_the_same(out, seed):
    catalog(out, runs=RUNS[:2], files=3, seed=seed)
    before, former = newest(out), names(out)
    compact(out)
    merged = sorted(set(names(out)) - set(former))
    content = {name: storage.read(f"{layout.journal_folder(out)}/{name}.parquet") for name in (*former, *merged)}
    for present in itertools.product([True, False], repeat=3):  # of the first run's former files
        gone = [name for name, is_there in zip(former[:3], present, strict=True) if not is_there]
        for name in gone:
            storage.remove(f"{layout.journal_folder(out)}/{name}.parquet")
        assert (newest(out), every_row_of_every_file(out)) == (before, before)
        for name in gone:
            storage.put(f"{layout.journal_folder(out)}/{name}.parquet", content[name])


@pytest.mark.parametrize("out", ["disk"], indirect=True)
@pytest.mark.parametrize("step", range(1, 12))
def test_a_kill_between_any_two_steps_changes_nothing_and_the_next_call_ends_it(out, step, monkeypatch):
    catalog(out)
    before, all_rows = newest(out), rows(out)
    compact(out)  # so that the next one has files to remove
    put(out, "000003-0000-000000", ("t1", "later"))
    put(out, "000003-0000-000001", ("t2", "later"))
    expected = before | {"t1": "later", "t2": "later"}
    left = itertools.count(step, -1)

    def killed(call):
        def until(*arguments, **options):
            if next(left) <= 0:
                raise KeyboardInterrupt
            return call(*arguments, **options)

        return until

    with monkeypatch.context() as patched:
        for name in ("remove", "put_file"):
            patched.setattr(storage, name, killed(getattr(storage, name)))
        with contextlib.suppress(KeyboardInterrupt):
            compact(out)
    assert (newest(out), every_row_of_every_file(out)) == (expected, expected)
    compact(out)
    compact(out)
    assert (newest(out), rows(out)) == (expected, sorted([*all_rows, ("t1", "later"), ("t2", "later")]))
    assert names(out) == [*(f"{run}-000003-000000" for run in RUNS), "000003-0000-000001-000000"]


def test_files_that_came_after_a_merged_one_are_merged_with_it(out):
    catalog(out, runs=RUNS[:1])
    compact(out)
    put(out, f"{RUNS[0]}-000004", ("t1", "later"))
    before = newest(out)
    assert before["t1"] == "later"
    compact(out)
    compact(out)
    assert (names(out), newest(out)) == ([f"{RUNS[0]}-000004-000000"], before)


def test_no_file_is_merged_over_a_gap_a_change_of_columns_or_one_that_cannot_be_read(out):
    for file in (0, 1, 3, 4):
        put(out, f"000001-aaaa-{file:06d}", (f"t{file}", "x"))
    for file in (5, 6):
        put(out, f"000001-aaaa-{file:06d}", (f"t{file}", "x"), genre="rock")
    storage.put(f"{layout.journal_folder(out)}/000001-aaaa-000007.parquet", b"torn")
    put(out, "000001-aaaa-000008", ("t8", "x"))
    compact(out)
    merged = ["000001-aaaa-000001-000000", "000001-aaaa-000004-000003", "000001-aaaa-000006-000005"]
    assert [name for name in names(out) if name.count("-") == 3] == merged


def test_files_are_merged_up_to_a_size(out, monkeypatch):
    catalog(out, runs=RUNS[:1], files=6)
    size = max(found.bytes for found in storage.find(layout.journal_folder(out)))
    monkeypatch.setattr(compaction, "MOST_BYTES", 2 * size)
    before = newest(out)
    compact(out)
    compact(out)
    assert names(out) == [f"{RUNS[0]}-00000{last}-00000{last - 1}" for last in (1, 3, 5)]
    assert newest(out) == before


def test_rows_keep_their_order_across_groups_of_rows(out, monkeypatch):
    monkeypatch.setattr(compaction, "GROUP_ROWS", 3)
    catalog(out, runs=RUNS[:1], files=7)
    before, all_rows = newest(out), rows(out)
    compact(out)
    assert (newest(out), rows(out)) == (before, all_rows)


def test_a_run_that_was_taken_over_merges_and_removes_nothing(out):
    catalog(out)
    before = names(out)

    def taken_over():
        raise errors.LeaseHeldError

    with pytest.raises(errors.LeaseHeldError):
        compact(out, taken_over)
    assert names(out) == before


def test_hidden_files_are_not_of_the_journal(out):
    put(out, "000001-aaaa-000000", ("a", "first"))
    for name in ("._000001-aaaa-000000.parquet", "._x.parquet", ".nfs0001"):
        storage.put(f"{layout.journal_folder(out)}/{name}", b"\0\5\x16\7")
    with database.opened(out) as journal:
        assert journal.database.sql("SELECT id FROM newest").fetchall() == [("a",)]


def test_few_files_are_left_as_they_are(out, monkeypatch):
    monkeypatch.setattr(compaction, "FEWEST", 5)
    catalog(out)
    before = names(out)
    compact(out)
    assert names(out) == before


def test_a_run_of_a_number_that_was_merged_is_followed_by_the_next(out):
    catalog(out)
    compact(out)
    compact(out)
    assert new_run(out).startswith("000003-")
