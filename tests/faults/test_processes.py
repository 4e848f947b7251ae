"""Whole runs in processes of their own: two at once, one that is stopped and goes on, and one that carries a secret."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from catalogs import finished, stems_below, write_tone
from faults.killing import Victim, line_of

from sep_batch.pipeline import storage
from sep_batch.pipeline.out import layout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
TRACKS = 12


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """Tones that take so long that a second run comes while the first goes on."""
    folder = tmp_path_factory.mktemp("catalog")
    for number in range(TRACKS):
        write_tone(folder / f"{number:02d}.wav", 200 + 37 * number, seconds=20 + number % 3)
    return str(folder)


def until(happened, seconds=300):
    """Wait until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_run_that_is_stopped_is_taken_over_and_commits_nothing_when_it_goes_on(catalog, tiny, tmp_path, engine):
    options = {"source": catalog, "out": str(tmp_path / "out"), "model": tiny, "engine": engine, "flush_s": 0.1, "dead_s": 4.0}
    with Victim(options, tmp_path / "first.log") as first, contextlib.ExitStack() as others:
        until(lambda: 0 < len(finished(options["out"])) < TRACKS)
        begun = time.monotonic()
        refused = others.enter_context(Victim(options, tmp_path / "refused.log"))
        assert refused.end() == 75
        assert time.monotonic() - begun < 60
        first.popen.send_signal(signal.SIGSTOP)
        second = others.enter_context(Victim(options | {"wait_s": 60.0}, tmp_path / "second.log"))
        assert second.end() == 0, (tmp_path / "second.log").read_text()
        committed = {found.uri: storage.read(found.uri) for found in storage.find(layout.journal_folder(options["out"]))}
        first.popen.send_signal(signal.SIGCONT)
        assert first.end() == 75, (tmp_path / "first.log").read_text()
    assert {found.uri: storage.read(found.uri) for found in storage.find(layout.journal_folder(options["out"]))} == committed
    assert {row.status for row in finished(options["out"]).values()} == {"ok"}
    assert len(stems_below(tmp_path / "out")) == 2 * TRACKS


def test_a_secret_is_in_no_log_index_journal_error_command_line_or_file_of_rays(catalog, tiny, tmp_path, s3):
    canary = "canary-5c1e0b"
    (tmp_path / "options.json").write_text(json.dumps({"s3://elsewhere/": {"key": "k", "secret": canary}}))
    out = f"{s3}/secret"
    options = {"source": catalog, "out": out, "model": tiny, "storage_options": str(tmp_path / "options.json")}
    folder = tempfile.mkdtemp(prefix="r")  # a short path: sockets of Ray's lie below it
    lines = set()
    try:
        with Victim(options, tmp_path / "run.log", {**os.environ, "RAY_TMPDIR": folder}) as run:
            while run.popen.poll() is None:
                lines |= {line_of(one) for one in run.below().values()}
                time.sleep(0.2)
            assert run.end() == 0, (tmp_path / "run.log").read_text()
        assert any("ray::MapWorker" in line for line in lines)
        assert not [line for line in lines if canary in line]
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        assert len(files) > 10
        for path in [*files, tmp_path / "run.log"]:
            assert canary.encode() not in path.read_bytes(), path
        for found in storage.find(out):
            assert canary.encode() not in storage.read(found.uri), found.uri
    finally:
        shutil.rmtree(folder, ignore_errors=True)
