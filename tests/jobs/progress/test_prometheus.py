"""`--metrics-port`: Prometheus' own parser reads a run's counts while it runs."""

from __future__ import annotations

import re
import socket
import urllib.request

import pytest
from catalogs import write_tone
from project_files import ROOT
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.prometheus import Counts, Metrics
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors
from sep_batch.pipeline.flow.local_flow import LocalFlow
from sep_batch.pipeline.out import index

OPERATE = (ROOT / "docs" / "operate.md").read_text()


def parsed(text):
    """Return values by name and labels."""
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def scraped(caplog):
    """Read the metrics where the log says they are, as Prometheus does."""
    (address,) = re.findall(r"metrics: (http://127\.0\.0\.1:\d+/metrics)", caplog.text)
    with urllib.request.urlopen(address, timeout=10) as answer:
        return parsed(answer.read().decode())


@pytest.fixture
def scrapes(tmp_path, tiny, local, monkeypatch, caplog):
    """What Prometheus read before each row of a run of two tones and a broken file, and after the last."""
    caplog.set_level("INFO", "sep_batch")
    for name in ("a", "b"):
        write_tone(tmp_path / "songs" / f"{name}.wav")
    (tmp_path / "songs" / "broken.wav").write_bytes(b"no audio")
    whole, read = LocalFlow.rows, []

    def watched(flow):
        for row in whole(flow):
            read.append(scraped(caplog))
            yield row

    monkeypatch.setattr(LocalFlow, "rows", watched)
    progress = Progress(Metrics("0"))
    run_job(str(tmp_path / "songs"), str(tmp_path / "out"), model=tiny, progress=progress)
    registry = CollectorRegistry()
    registry.register(Counts(progress.standing))
    read.append(parsed(generate_latest(registry).decode()))
    return read, index.read(str(tmp_path / "out")).to_pylist()


def test_during_a_run_the_counts_grow_to_what_the_index_says(scrapes):
    read, rows = scrapes
    ok = ("sep_batch_tracks_total", (("error_class", ""), ("status", "ok")))
    failed = ("sep_batch_tracks_total", (("error_class", "unsupported_format"), ("status", "failed")))
    assert read[0][ok] == 0
    assert [one[ok] for one in read] == sorted(one[ok] for one in read)
    assert (read[-1][ok], read[-1][failed]) == (2, 1)
    assert {one["sep_batch_tracks_planned", ()] for one in read} == {3}
    assert read[-1]["sep_batch_audio_seconds_total", ()] == pytest.approx(1.0)
    separated = sum(row["separate_s"] or 0 for row in rows)
    assert read[-1]["sep_batch_stage_seconds_total", (("stage", "Separate"),)] == pytest.approx(separated)
    assert 0 < read[-1]["sep_batch_busy_ratio", (("stage", "Separate"),)] <= 1
    assert read[-1]["sep_batch_actors", (("stage", "Separate"),)] == 1


def test_the_readme_names_every_metric_and_no_other(scrapes):
    table = OPERATE[OPERATE.index("<!-- metrics -->") : OPERATE.index("<!-- /metrics -->")]
    assert set(re.findall(r"`(sep_batch_[a-z_]+)", table)) == {name for name, _ in scrapes[0][-1]}


def test_a_port_in_use_is_one_clear_line_before_anything_starts(tmp_path, tiny, local):
    write_tone(tmp_path / "songs" / "a.wav")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.NotRunnableError, match=rf"^--metrics-port {port}: Address already in use$"):
            run_job(str(tmp_path / "songs"), str(tmp_path / "out"), model=tiny, progress=Progress(Metrics(str(port))))
    assert not (tmp_path / "out").exists()
    assert not local


@pytest.mark.parametrize("address", ["", "http", "127.0.0.1:", "70000", "-1", "a:b", "٣"])
def test_what_is_no_port_is_refused(address):
    with pytest.raises(errors.UsageError, match="expected PORT or HOST:PORT"):
        Metrics(address)


@pytest.mark.parametrize(("address", "host"), [("0", "127.0.0.1"), ("0.0.0.0:0", "0.0.0.0"), ("[::1]:0", "::1")])
def test_it_listens_on_this_machine_only_unless_a_host_is_named(address, host):
    assert Metrics(address)._host == host


def test_after_the_run_the_port_is_free_again(caplog):
    caplog.set_level("INFO", "sep_batch")
    progress = Progress(Metrics("0"))
    with progress.showing():
        scraped(caplog)
    with pytest.raises(OSError, match="refused"):
        scraped(caplog)
