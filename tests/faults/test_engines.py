"""Runs that are killed under one engine and finished under another leave what an undisturbed run leaves."""

from __future__ import annotations

import json
import os
import time

import pytest
from catalogs import write_tone
from faults.killing import Victim, pending
from faults.test_kills import check, listing

from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline.out import index

pytestmark = pytest.mark.timeout(600)
TRACKS = 10
EQUAL = ("id", "uri", "audio_s", "parts", "attempts", "source_bytes", "source_etag", "settings_sha256", "above_f_db", "device")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A folder of tones, one of them of five parts."""
    folder = tmp_path_factory.mktemp("catalog")
    for number in range(TRACKS - 1):
        write_tone(folder / f"{number:02d}.wav", 200 + 37 * number, seconds=2 + number % 3)
    write_tone(folder / "long.wav", 333, seconds=120)  # the last, so that a kill finds it unfinished
    return str(folder)


def rows(out):
    """Return the columns of the index that no engine changes, with every stem's, by id."""
    return {row["id"]: [row["stems"], *(row[name] for name in EQUAL)] for row in index.read(out).to_pylist()}


@pytest.fixture
def undisturbed(catalog, tiny, tmp_path, local):
    """What a run of the local engine leaves that nobody disturbs."""
    out = str(tmp_path / "undisturbed")
    summary = run_job(catalog, out, model=tiny, gpus="0")
    assert (summary.exit_code, summary.ok, summary.engine) == (0, TRACKS, "local")
    return listing(out), rows(out)


@pytest.fixture
def environment(tmp_path):
    """The environment of a user in whose folder modules have the names of ours."""
    (tmp_path / "other").mkdir()
    for name in ("model", "pipeline", "jobs"):
        (tmp_path / "other" / f"{name}.py").write_text("raise SystemExit('the wrong module was imported')\n")
    return os.environ | {"PYTHONPATH": str(tmp_path / "other")}


def killed_at(options, share, log, environment):
    """Begin a run, and kill it once this share of its tracks is done."""
    with Victim(options, log, environment) as victim:
        while pending(options["out"], TRACKS) > (1 - share) * TRACKS:
            assert victim.popen.poll() is None, log.read_text()
            time.sleep(0.02)
        victim.popen.kill()
        victim.end()
    assert 0 < pending(options["out"], TRACKS) < TRACKS


def finished(options, log, environment):
    with Victim(options, log, environment) as victim:
        assert victim.end() == 0, log.read_text()
    return json.loads(log.read_text().splitlines()[-1])


@pytest.mark.parametrize(
    ("share", "begun", "resumed"),
    [
        (0.1, "local", "local"),
        (0.1, "ray", "local"),
        pytest.param(0.5, "local", "ray", marks=pytest.mark.slow),
        pytest.param(0.7, "local", "local", marks=pytest.mark.slow),
        pytest.param(0.5, "ray", "ray", marks=pytest.mark.slow),
        pytest.param(0.7, "ray", "local", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_under_one_engine_and_finished_under_another_leaves_what_an_undisturbed_one_leaves_on_one_cpu(
    catalog, tiny, undisturbed, environment, tmp_path, share, begun, resumed
):
    options = {"source": catalog, "out": str(tmp_path / "out"), "model": tiny, "flush_s": 0.1, "cpus": 1}
    killed_at(options | {"engine": begun}, share, tmp_path / "first.log", environment)
    summary = finished(options | {"engine": resumed}, tmp_path / "second.log", environment)
    assert (summary["engine"], summary["failed"]) == (resumed, {})
    check(options["out"], undisturbed[0], TRACKS)
    assert rows(options["out"]) == undisturbed[1]
