"""What only reads an OUT tells the same while a run that begins and ends merges the journal's files and removes them."""

from __future__ import annotations

import json
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import finished

from sep_batch.jobs.failures.failures import run_failures
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.status.status import run_status
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import compaction, database, index, layout
from sep_batch.pipeline.rows import JOURNAL
from sep_batch.pipeline.storage import retries

RUN = "000001-abcd"
TRACKS = 4


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    """Merge from two files on."""
    monkeypatch.setattr(compaction, "FEWEST", 2)


@pytest.fixture(params=["disk", "memory"])
def out(request, tmp_path):
    """An OUT of one journal file a track, of which every other failed, and its manifest."""
    out = {"disk": str(tmp_path / "out"), "memory": f"memory://{tmp_path.name}/out"}[request.param]
    for number in range(TRACKS):
        status = {"status": "failed", "error_class": "not_found", "error": "gone"} if number % 2 else {"status": "ok"}
        row = dict.fromkeys(JOURNAL.names) | {"id": f"t{number}", "uri": f"/songs/{number}.wav", "run_id": RUN} | status
        content = pa.BufferOutputStream()
        pyarrow.parquet.write_table(pa.Table.from_pylist([row], JOURNAL), content)
        storage.put(f"{layout.journal_folder(out)}/{RUN}-{number:06d}.parquet", content.getvalue().to_pybytes())
    storage.put(f"{out}/_sep/run.json", json.dumps({"settings": {}}).encode())
    (tmp_path / "songs.csv").write_text("".join(["id,uri\n", *(f"t{n},/songs/{n}.wav\n" for n in range(TRACKS + 1))]))
    return out


def merge(out):
    """Do what two runs do, one after another: the second removes what the first has merged."""
    for run in ("000002-aaaa", "000003-aaaa"):
        index.compact(out, run, check=lambda: None)


def merged_once_listed(out, monkeypatch):
    """Have the journal merged after it is first listed."""
    needed, left = compaction.needed, [out]

    def listed(found):
        files = needed(found)
        if left:
            merge(left.pop())
        return files

    monkeypatch.setattr(compaction, "needed", listed)


def merged_once_open(out, monkeypatch):
    """Have the journal merged after it is first open."""
    opened, left = database.opened, [out]

    @contextmanager
    def merging(out, **options):
        with opened(out, **options) as journal:
            if left:
                merge(left.pop())
            yield journal

    monkeypatch.setattr(database, "opened", merging)


def told_by_status(out, _tmp_path, _tiny):
    status = run_status(out)
    return status.done, status.failed, status.tried, status.run


def told_by_plan(out, tmp_path, tiny):
    return run_plan(str(tmp_path / "songs.csv"), out, model=tiny).reasons


def told_by_verify(out, _tmp_path, _tiny):
    report = run_verify(out)
    return report.tracks, report.counts


def told_by_failures(out, tmp_path, _tiny):
    report = run_failures(out, to=str(tmp_path / "failures.csv"))
    return report.tracks, report.failed, (tmp_path / "failures.csv").read_text()


@pytest.mark.parametrize("told", [told_by_status, told_by_plan, told_by_verify, told_by_failures])
@pytest.mark.parametrize("merged", [merged_once_listed, merged_once_open])
def test_a_command_that_only_reads_tells_the_same_while_the_journal_is_merged(told, merged, out, tmp_path, tiny, monkeypatch):
    expected = told(out, tmp_path, tiny)
    merged(out, monkeypatch)
    assert told(out, tmp_path, tiny) == expected
    assert len(list(storage.find(layout.journal_folder(out)))) == 1


def test_a_journal_that_is_merged_before_it_is_open_is_listed_anew(out, monkeypatch):
    merged_once_listed(out, monkeypatch)
    assert set(finished(out)) == {f"t{number}" for number in range(TRACKS)}


def test_a_journal_file_that_is_gone_though_it_is_not_merged_is_named_after_a_few_listings(out, monkeypatch):
    find, listings = storage.find, []

    def stale(uri):
        if uri == layout.journal_folder(out) and len(listings) < 100:
            listings.append(uri)
            yield storage.Info(f"{uri}/{RUN}-000009.parquet", 100, None)
        yield from find(uri)

    monkeypatch.setattr(storage, "find", stale)
    with pytest.raises((errors.NotRunnableError, errors.NotFound), match=f"{RUN}-000009"), database.opened(out):
        pass
    assert len(listings) <= 2 * retries.LISTINGS


def ids_once_merged(out):
    with database.opened(out) as journal:
        merge(out)
        return journal.database.sql("SELECT id FROM newest").fetchall()


@pytest.mark.parametrize("out", ["disk"], indirect=True)
def test_a_file_that_is_merged_and_removed_before_a_query_is_an_error_that_says_so(out):
    with pytest.raises(errors.JournalChangedError, match=f"{RUN}-00000.*merged and removed"):
        ids_once_merged(out)


@pytest.mark.parametrize("out", ["memory"], indirect=True)
def test_a_remote_journal_is_copied_before_it_is_open(out):
    assert len(ids_once_merged(out)) == TRACKS
