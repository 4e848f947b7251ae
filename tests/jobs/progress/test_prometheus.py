"""`--metrics-port`, `--metrics-file`: Prometheus' own parser reads a run's counts while it runs, and after it."""

from __future__ import annotations

import errno
import re
import socket
import time
import urllib.request
from datetime import datetime, timedelta

import pytest
from catalogs import write_tone
from project_files import ROOT
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sep_batch.jobs.progress import progress as progress_module
from sep_batch.jobs.progress import prometheus
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.prometheus import Counts, Metrics, MetricsFile
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.run.sync import run_sync
from sep_batch.pipeline import errors
from sep_batch.pipeline.flow.local_flow import LocalFlow
from sep_batch.pipeline.out import index

DOC = (ROOT / "docs" / "reference" / "metrics.md").read_text()
ALERTS = (ROOT / "docs" / "guides" / "nightly.md").read_text()


def parsed(text):
    """Return values by name and labels, without OUT, which labels all of them."""
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    samples = [sample for family in families for sample in family.samples]
    assert len({sample.labels.pop("out") for sample in samples}) == 1
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}


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


def test_the_docs_name_every_metric_and_no_other(scrapes):
    names = {name for name, _ in scrapes[0][-1]}
    table = DOC[DOC.index("<!-- metrics -->") : DOC.index("<!-- /metrics -->")]
    assert set(re.findall(r"`(sep_batch_[a-z_]+)", table)) == names
    assert set(re.findall(r"sep_batch_[a-z_]+", DOC + ALERTS)) == names


@pytest.fixture
def textfile(tmp_path, tiny, local):
    """A function that runs sources with --metrics-file: what it wrote, its exception or exit code, and the folder's files."""
    file = tmp_path / "textfile" / "songs.prom"
    file.parent.mkdir()
    file.write_text("of an earlier run")

    def run(source, job=run_job, **options):
        progress = Progress(MetricsFile(str(file)))
        try:
            ended = job(str(source), str(tmp_path / "out"), model=tiny, progress=progress, **options).exit_code
        except (errors.RunError, KeyboardInterrupt) as error:
            ended = error
        assert f'out="{tmp_path / "out"}"' in file.read_text()
        return parsed(file.read_text()), ended, [path.name for path in file.parent.iterdir()]

    return run


def test_the_file_of_a_run_says_when_it_ended_how_and_what_it_did(textfile, tmp_path):
    write_tone(tmp_path / "songs" / "a.wav")
    (tmp_path / "songs" / "broken.wav").write_bytes(b"no audio")
    before = time.time()
    metrics, ended, files = textfile(tmp_path / "songs")
    assert (ended, files) == (3, ["songs.prom"])
    assert metrics["sep_batch_run_exit_code", ()] == 3
    started, over = (metrics[f"sep_batch_run_{name}_timestamp_seconds", ()] for name in ("start", "end"))
    assert before <= started < over <= time.time()
    assert metrics["sep_batch_tracks_total", (("error_class", ""), ("status", "ok"))] == 1
    assert textfile(tmp_path / "songs")[0]["sep_batch_run_exit_code", ()] == 0


def test_the_file_of_a_run_that_could_not_begin_has_its_exit_code(textfile, tmp_path):
    metrics, ended, _ = textfile(tmp_path / "no.csv")
    assert isinstance(ended, errors.NotRunnableError)
    assert metrics["sep_batch_run_exit_code", ()] == 5
    (tmp_path / "empty").mkdir()
    assert textfile(tmp_path / "empty", run_sync)[0]["sep_batch_run_exit_code", ()] == 5
    late = datetime.now() - timedelta(hours=1)  # noqa: DTZ005 (a deadline is in local time)
    assert textfile(tmp_path / "empty", deadline=f"{late:%H:%M}")[0]["sep_batch_run_exit_code", ()] == 7


def test_the_file_is_replaced_as_a_whole_while_the_run_is_at_work(textfile, tmp_path, monkeypatch):
    write_tone(tmp_path / "songs" / "a.wav")
    monkeypatch.setattr(progress_module, "EVERY_S", 0.02)
    whole, read, file = LocalFlow.rows, [], tmp_path / "textfile" / "songs.prom"

    def watched(flow):
        deadline = time.monotonic() + 20
        while len({file.stat().st_ino, *read}) < 4 and time.monotonic() < deadline:
            read.append(file.stat().st_ino)
            assert parsed(file.read_text())["sep_batch_tracks_planned", ()] in (0, 1)
            time.sleep(0.01)
        assert not [name for name, _ in parsed(file.read_text()) if "exit_code" in name]
        yield from whole(flow)

    monkeypatch.setattr(LocalFlow, "rows", watched)
    assert textfile(tmp_path / "songs")[1] == 0
    assert len(set(read)) >= 3


def test_a_file_that_cannot_be_written_any_more_is_one_warning_and_no_failure(tmp_path, tiny, local, monkeypatch, caplog):
    def full(_path, _registry):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_tone(tmp_path / "songs" / "a.wav")
    file = tmp_path / "songs.prom"
    monkeypatch.setattr(progress_module, "EVERY_S", 0.02)
    monkeypatch.setattr(prometheus, "write_to_textfile", full)
    run = Progress(MetricsFile(str(file)))
    assert run_job(str(tmp_path / "songs"), str(tmp_path / "out"), model=tiny, progress=run).exit_code == 0
    assert [message for message in caplog.messages if "metrics-file" in message] == [
        f"warning: --metrics-file {file}: could not be written (No space left on device)"
    ]


@pytest.mark.parametrize("name", ["songs", "songs.txt", "songs.prom.gz", "folder.prom", ""])
def test_a_name_that_node_exporter_does_not_read_is_refused(name, tmp_path):
    (tmp_path / "folder.prom").mkdir()
    with pytest.raises(errors.UsageError, match=r"^--metrics-file .*: expected a file whose name ends in \.prom"):
        MetricsFile(str(tmp_path / name))


def test_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(errors.NotRunnableError, match=r"its folder cannot be written to \(No such file or directory\); create"):
        MetricsFile(str(tmp_path / "no" / "songs.prom"))


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
