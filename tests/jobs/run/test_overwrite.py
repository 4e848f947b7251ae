"""An overwrite that is killed, wherever that is, leaves no row that vouches for another's bytes."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import finished, stems_below, write_tone

from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.status.status import run_status
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline import storage
from sep_batch.pipeline.out import index

OLD, NEW = {"bit_depth": "16"}, {"bit_depth": "24"}  # whose stems have the same names


class Killed(BaseException):
    """What no code of ours catches, as it cannot catch SIGKILL."""


@pytest.fixture
def catalog(tmp_path):
    """A manifest of two tones beside its files."""
    for hz in (300, 500):
        write_tone(tmp_path / "songs" / f"{hz}.wav", hz, seconds=0.2)
    pyarrow.parquet.write_table(pa.table({"uri": ["300.wav", "500.wav"], "id": ["a", "b"]}), tmp_path / "songs" / "m.parquet")
    return str(tmp_path / "songs" / "m.parquet")


@pytest.fixture
def kill(monkeypatch):
    """Return a function that has the nth write from now on be the last; nothing of the process is written after it."""
    whole = {name: getattr(storage, name) for name in ("put", "put_file", "remove")}

    def at(place):
        calls = itertools.count()

        def patched(name):
            def call(*arguments, **options):
                if next(calls) >= place:
                    raise Killed
                return whole[name](*arguments, **options)

            return call

        for name, call in whole.items():
            monkeypatch.setattr(storage, name, patched(name) if place is not None else call)

    return at


def buried(out):
    """Remove the lease of a process that is gone: this one only plays dead."""
    shutil.rmtree(Path(out) / "_sep" / "lease", ignore_errors=True)


def vouched(out):
    """Hold what journal and index say of stems against their bytes; return how many stems each vouches for."""
    for rows in (finished(str(out)).values(), published(out)):
        for row in rows:
            for stem in row.stems or ():
                assert hashlib.sha256((out / stem["uri"]).read_bytes()).hexdigest() == stem["sha256"], (row.id, row.status)
        yield sum(len(row.stems or ()) for row in rows)


def published(out):
    table = pyarrow.parquet.read_table(out / "index.parquet")
    return [type("Row", (), row) for row in table.to_pylist()]


@pytest.mark.parametrize("stride", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_overwrite_leaves_no_row_that_vouches_for_anothers_bytes(catalog, tiny, local, kill, tmp_path, stride):
    for settings, name in ((OLD, "old"), (NEW, "new")):
        run_job(catalog, str(tmp_path / name), model=tiny, **settings)
    alone = {name: stems_below(tmp_path / name) for name in ("old", "new")}
    revoked = list[tuple[int, int]]()
    for place in itertools.count(step=stride):
        out = tmp_path / f"killed-{place}"
        run_job(catalog, str(out), model=tiny, **OLD)
        kill(place)
        try:
            run_job(catalog, str(out), model=tiny, overwrite=True, **NEW)
            break
        except Killed:
            kill(None)
            buried(out)
        journal, index_ = vouched(out)
        revoked.append((journal, index_))
        assert not run_verify(str(out), deep=True).counts.keys() - {"index", "leftover"}, place
        follow, expected = ((NEW, "new"), (OLD, "old"))[len(revoked) % 2]
        summary = run_job(catalog, str(out), model=tiny, overwrite=True, **follow)
        assert summary.ok + summary.done_before == 2
        assert stems_below(out) == alone[expected]
        assert list(vouched(out)) == [4, 4]
        assert run_verify(str(out), deep=True).counts == {}
    kill(None)
    assert stems_below(out) == alone["new"]
    assert {(4, 4), (0, 0)} <= set(revoked)  # kills before the rows were revoked, and after


def test_what_an_overwrite_has_not_got_to_is_told_by_status_and_done_by_the_next_run(catalog, tiny, local, kill, tmp_path):
    run_job(catalog, str(tmp_path / "out"), model=tiny, **OLD)
    kill(6)
    with pytest.raises(Killed):
        run_job(catalog, str(tmp_path / "out"), model=tiny, overwrite=True, **NEW)
    kill(None)
    buried(tmp_path / "out")
    status = run_status(str(tmp_path / "out"))
    assert (status.replaced, status.done, status.pending) == (2, 0, 2)
    assert run_job(catalog, str(tmp_path / "out"), model=tiny, **NEW).ok == 2


def test_a_killed_overwrite_of_an_export_has_no_rows_of_shards_that_are_gone(catalog, tiny, local, inline_export, kill, tmp_path):
    run_job(catalog, out := str(tmp_path / "out"), model=tiny)
    options = {"to": "webdataset", "excerpt": "0.1s", "shard_size": 1}
    run_export(out, str(tmp_path / "whole"), **options)
    data = {path.name for path in (tmp_path / "whole").rglob("*.tar")}
    for place in itertools.count(step=3):
        dest = tmp_path / f"data-{place}"
        run_export(out, str(dest), **options | {"shard_size": 2})
        kill(place)
        try:
            run_export(out, str(dest), overwrite=True, **options)
            break
        except Killed:
            kill(None)
            buried(dest)
        told = run_export(out, str(dest), overwrite=True, **options)
        assert told.exit_code == 0
        assert {path.name for path in dest.rglob("*.tar")} == data, place
    kill(None)
    assert place > 6
    assert {path.name for path in dest.rglob("*.tar")} == data


def test_the_index_of_an_overwrite_has_no_stems_before_the_first_is_written(catalog, tiny, local, monkeypatch, tmp_path):
    run_job(catalog, out := str(tmp_path / "out"), model=tiny, **OLD)
    seen, put = [], storage.put

    def looked(uri, content, **options):
        if "/stems/" in uri:
            seen.append([(row["status"], row["stems"]) for row in index.read(out).to_pylist()])
        return put(uri, content, **options)

    monkeypatch.setattr(storage, "put", looked)
    run_job(catalog, out, model=tiny, overwrite=True, **NEW)
    assert seen
    assert seen[0] == [("replaced", None), ("replaced", None)]
