"""`--json`: events as lines of JSON, as the table in docs/reference/events.md says."""

from __future__ import annotations

import io
import itertools
import json
import re
import threading
import time
from datetime import datetime, timedelta

import pytest
from catalogs import write_tone
from project_files import ROOT

from sep_batch.jobs.progress import progress
from sep_batch.jobs.progress.json_events import Events
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup.stop import Stop
from sep_batch.pipeline import storage
from sep_batch.pipeline.flow.local_flow import LocalFlow

DOC = (ROOT / "docs" / "reference" / "events.md").read_text()


def events_of(source, tiny, **options):
    """Run with events, and return them."""
    file = io.StringIO()
    run_job(str(source), model=tiny, progress=Progress(Events(file)), **options)
    return [json.loads(line) for line in file.getvalue().splitlines()]


@pytest.fixture
def stopped(tmp_path, tiny, local, monkeypatch):
    """The events of a run with a failed track, that a signal ended."""
    write_tone(tmp_path / "songs" / "b.wav", 300)
    write_tone(tmp_path / "songs" / "c.wav", 500)
    (tmp_path / "songs" / "a.wav").write_bytes(b"no audio")
    whole, asked = LocalFlow.rows, threading.Event()

    def is_asked(self):
        if asked.is_set():
            self.ask("stopped by SIGTERM")
        return self.why is not None

    def slow(flow):
        rows = whole(flow)
        yield from itertools.islice(rows, 2)
        time.sleep(0.5)
        asked.set()
        deadline = time.monotonic() + 20
        while not storage.exists(flow._work.stop_uri) and time.monotonic() < deadline:  # until the driver has seen it
            time.sleep(0.02)

    monkeypatch.setattr(LocalFlow, "rows", slow)
    monkeypatch.setattr(Stop, "is_asked", property(is_asked))  # a true signal might find pytest where the run is over
    monkeypatch.setattr(progress, "EVERY_S", 0.1)
    return events_of(tmp_path / "songs", tiny)


def test_every_event_is_told_in_its_order_with_time_and_run(stopped):
    first = {}
    for place, event in enumerate(stopped):
        first.setdefault(event["event"], place)
        told = datetime.fromisoformat(event["time"])
        assert told.utcoffset() == timedelta(0)
    assert first["start"] < first["failed"] < first["stopping"] < first["summary"] == len(stopped) - 1
    assert "progress" in first
    runs = {event["run"] for event in stopped[first["start"] :]}
    assert runs == {stopped[-1]["run"]}
    assert None not in runs


def test_the_events_say_what_was_done(stopped):
    last = {event["event"]: event for event in stopped}
    assert (last["start"]["tracks"], last["start"]["actors"]) == (3, {"Analyze": 1, "Separate": 1, "Write": 1})
    assert len(last["start"]["settings_sha256"]) == 64
    failed = last["failed"]
    assert (failed["class"], failed["stage"], failed["transient"]) == ("unsupported_format", "decode", False)
    assert failed["uri"].endswith("/songs/a.wav")
    assert failed["id"].startswith("a-")
    assert (last["progress"]["done"], last["progress"]["failed"], last["progress"]["tracks"]) == (2, 1, 3)
    assert last["progress"]["x_real_time"] > 0
    assert last["stopping"]["why"] == "stopped by SIGTERM"
    assert (last["summary"]["ok"], last["summary"]["failed"], last["summary"]["exit_code"]) == (1, {"unsupported_format": 1}, 7)


def test_the_docs_name_every_event_and_its_keys(stopped):
    table = DOC[DOC.index("<!-- events -->") : DOC.index("<!-- /events -->")]
    told = {
        name: set(re.findall(r"`([a-z_0-9]+)`", keys))
        for name, keys in re.findall(r"^\| `([a-z]+)` \| .* \| (.*) \|$", table, re.MULTILINE)
    }
    always = {"event", "time", "run"}
    found = {event["event"]: event.keys() - always for event in stopped}
    assert told == found
    assert always <= set(re.findall(r"`([a-z]+)`", DOC[: DOC.index("<!-- events -->")]))


def test_where_there_is_nothing_to_do_the_summary_is_the_only_event(tmp_path, tiny, local):
    write_tone(tmp_path / "songs" / "a.wav")
    events_of(tmp_path / "songs", tiny)
    (only,) = events_of(tmp_path / "songs", tiny)
    assert (only["event"], only["run"], only["done_before"]) == ("summary", None, 1)


def test_a_reader_that_is_gone_ends_the_events_and_not_the_run(caplog):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    events = Events(Gone())
    for _ in range(2):
        events.ended(Summary("out", 1))
    assert caplog.messages == ["--json: no more events, stdout cannot be written to: Broken pipe"]
