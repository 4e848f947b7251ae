"""Runs that are killed many times, and run again, leave what an undisturbed run leaves; test_engines.py has one kill each."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter

import pyarrow.parquet
import pytest
from catalogs import stems_below, write_tone
from faults.killing import run_killed

from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline import storage
from sep_batch.pipeline.out import compaction, index, layout

pytestmark = pytest.mark.timeout(1200)
TRACKS = 24
LONG_S = 520.0  # 18 parts


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A folder of tones, one of them long enough for several parts."""
    folder = tmp_path_factory.mktemp("catalog")
    for number in range(TRACKS - 1):
        write_tone(folder / f"{number:02d}.wav", 200 + 37 * number, seconds=0.5 + number % 5)
    write_tone(folder / "long.wav", 333, seconds=LONG_S)
    return str(folder)


def listing(out):
    """Return every stem below OUT with its sha256."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in stems_below(out).items()}


@pytest.fixture(scope="module")
def undisturbed(catalog, tiny, tmp_path_factory, one_ray):
    """What a run leaves that nobody disturbs."""
    out = str(tmp_path_factory.mktemp("undisturbed") / "out")
    summary = run_job(catalog, out, model=tiny, gpus="0")
    assert (summary.exit_code, summary.ok) == (0, TRACKS)
    return listing(out)


def check(out, undisturbed, tracks=TRACKS):
    """Hold OUT against what an undisturbed run leaves, and its journal against its index."""
    assert listing(out) == undisturbed
    rows = index.read(out)
    assert Counter(rows.column("status").to_pylist()) == {"ok": tracks}
    files = compaction.needed(storage.find(layout.journal_folder(out)))
    tables = [pyarrow.parquet.read_table(storage.open_source(file)[0], columns=["id", "status"]) for file in files]
    committed = Counter(row["id"] for table in tables for row in table.to_pylist() if row["status"] == "ok")
    assert committed == dict.fromkeys(rows.column("id").to_pylist(), 1)  # none was separated again after its commit
    left = [found.uri for part in ("parts", "plan") for found in storage.find(f"{out}/_sep/{part}")]
    assert left == []
    report = run_verify(out, deep=True)
    assert (report.exit_code, report.counts, report.tracks, report.stems) == (0, {}, {"ok": tracks}, len(undisturbed))


def killed(out, catalog, model, undisturbed, tmp_path, *, kills, seed, **access):
    """Run the catalog through so many kills, check what it leaves, and return the kills."""
    options = {"source": catalog, "out": out, "model": model, "flush_s": 0.5} | access
    done = run_killed(options, TRACKS, kills=kills, drawn=random.Random(seed), log=tmp_path / "runs.log")
    assert done.codes[-1] == 0, done.told
    assert -1 not in done.codes, done.told
    assert all(hit.pending for hit in done.hits)
    check(out, undisturbed)
    return done.hits


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_kills_on_a_disk(catalog, tiny, undisturbed, tmp_path, seed):
    assert killed(str(tmp_path / "out"), catalog, tiny, undisturbed, tmp_path, kills=3, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_kills_on_object_storage(catalog, tiny, undisturbed, tmp_path, s3, seed):
    assert killed(f"{s3}/killed-{seed}", catalog, tiny, undisturbed, tmp_path, kills=3, seed=100 + seed)


@pytest.mark.slow
def test_kills_on_each_kind_of_object_storage(catalog, tiny, undisturbed, tmp_path, cloud):
    (tmp_path / "options.json").write_text(json.dumps(cloud.options))
    out, file = f"{cloud.uri}/killed-once", str(tmp_path / "options.json")
    assert killed(out, catalog, tiny, undisturbed, tmp_path, kills=3, seed=200, storage_options=file)
