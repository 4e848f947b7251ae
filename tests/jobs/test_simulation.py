"""A simulated catalog through the real driver, plan, journal and index: killed midway, resumed, and right to the last row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from project_files import TESTS

from sep_batch.pipeline.out import database

sys.path.insert(0, str(TESTS / "benchmarks"))

import simulate_catalog
from simulate_catalog import check, plan, run, status

from sep_batch.pipeline.out import compaction

ROWS = 2_000
FAILED = 40  # two in a hundred


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A catalog whose run was killed midway: its source and OUT, as the steps take them."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate_catalog.write_manifest(folder / "catalog.parquet", ROWS)
    command = [sys.executable, simulate_catalog.__file__, str(folder), "--step", "run", "--kill_at", str(ROWS // 2)]
    assert subprocess.run(command, env=os.environ, check=False).returncode == -signal.SIGKILL
    return str(folder / "catalog.parquet"), str(folder / "out")


def test_a_catalog_that_was_killed_is_resumed_and_its_index_is_right(killed, monkeypatch):
    monkeypatch.setattr(compaction, "FEWEST", 2)
    told = run(*killed)
    assert (told["exit code"], 0 < told["done before"] < ROWS // 2) == (3, True)
    assert told["done before"] + told["ok"] + told["failed"] in range(ROWS - FAILED, ROWS + 1)
    assert check(*killed) == {"rows": ROWS, "wrong": {}}
    again = run(*killed)
    assert (again["exit code"], again["done before"], again["ok"], again["failed"]) == (0, ROWS - FAILED - 1, 0, 0)
    assert check(*killed) == {"rows": ROWS, "wrong": {}}
    assert status(*killed) == {"done": ROWS - FAILED - 1, "failed": FAILED + 1, "pending": 0}
    assert plan(*killed) == {"to do": 0, "reasons": {"done": ROWS - FAILED - 1, "known_failed": FAILED + 1}}


def test_the_check_finds_an_index_that_is_not_right(killed):
    source, out = killed
    with database.opened(out) as journal:
        journal.database.sql(
            f"""COPY (SELECT * EXCLUDE (_sep_file, _sep_place)
            FROM (FROM newest UNION ALL FROM newest WHERE status = 'failed') WHERE id NOT LIKE '%7_-%')
            TO '{out}/index.parquet' (FORMAT parquet)"""
        )
    assert {"ids of the manifest that the index does not have", "ids that the index has twice"} <= set(
        check(source, out)["wrong"]
    )
