"""Records of runs in OUT: whatever ends a run, what is in its record, and that the run does not depend on it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import signal
import time
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import write_tone
from project_files import ROOT

from sep_batch.jobs.run import record
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup import machine
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.flow.local_flow import LocalFlow
from sep_batch.pipeline.out import lease
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import machine_requirements, stems
from sep_batch.pipeline.storage import retries

CANARY = "canary-8f31"


@pytest.fixture
def songs(tmp_path):
    """A folder of two tones."""
    for hz in (300, 500):
        write_tone(tmp_path / "songs" / f"{hz}.wav", hz)
    return str(tmp_path / "songs")


@pytest.fixture
def records(tmp_path):
    """A function that returns the records of the OUT beside the songs, by name."""
    folder = tmp_path / "songs.stems" / "_sep" / "runs"
    return lambda: {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*"))}


def test_the_record_of_a_run_is_its_summary_with_times_settings_versions_and_machine(songs, tiny, local, records):
    before = datetime.now().astimezone().replace(microsecond=0)
    summary = run_job(songs, model=tiny, max_failures="7%")
    (name, content), *others = records().items()
    assert (name, others) == (summary.run, [])
    as_event = json.loads(summary.to_json())
    assert {key: content[key] for key in as_event} == as_event
    started, ended = (datetime.fromisoformat(content[key]) for key in ("started", "ended"))
    assert before - timedelta(seconds=1) <= started <= ended <= datetime.now().astimezone()
    assert (started.utcoffset(), ended.utcoffset()) == (timedelta(0), timedelta(0))
    assert (ended - started).total_seconds() == pytest.approx(summary.job_s, abs=1.01)
    assert (content["record_version"], content["exit_code"], content["error"], content["left"]) == (1, 0, None, 0)
    assert Settings.load(content["settings"]).sha256 == content["settings_sha256"]
    assert content["versions"] == machine_requirements.versions()
    assert (content["source"], content["options"]["max_failures"], content["options"]["model"]) == (songs, "7%", tiny)
    assert (content["machine"]["cpus"], content["machine"]["memory_bytes"] > 1e8) == (machine.usable_cpus(), True)
    assert content["actors"] == {"Analyze": 1, "Separate": 1, "Write": 1}


def test_the_docs_name_every_key_that_a_record_has_besides_those_of_the_summary(songs, tiny, local, records):
    summary = run_job(songs, model=tiny)
    text = (ROOT / "docs" / "guides" / "operate.md").read_text()
    table = text[text.index("<!-- record -->") : text.index("<!-- /record -->")]
    named = set(re.findall(r"`([a-z_0-9]+)`", "".join(row.split("|")[1] for row in table.splitlines() if row.count("|") > 2)))
    (content,) = records().values()
    further = content.keys() - (summary.as_dict().keys() - {"exit_code", "forecast_s", "job_s"})
    assert named | {"vanished_tracks"} == further | {"summary"}


def test_a_forecast_is_beside_the_actual_seconds(songs, tiny, local, records, monkeypatch):
    from sep_batch.jobs.progress import forecast

    monkeypatch.setattr(forecast, "take", lambda *_: forecast.Forecast(2, 1.0, start_s=9.0, x_real_time=1.0))
    run_job(songs, model=tiny)
    (content,) = records().values()
    assert (content["forecast_s"], 0 < content["job_s"] < 60) == (10.0, True)


def test_failed_tracks_are_in_the_record_by_class(songs, tiny, local, records, tmp_path):
    (tmp_path / "songs" / "broken.wav").write_bytes(b"no audio")
    assert run_job(songs, model=tiny).exit_code == 3
    (content,) = records().values()
    assert (content["exit_code"], content["failed"], content["left"]) == (3, {"unsupported_format": 1}, 0)


def test_too_many_failures_are_in_the_record_as_exit_4(tmp_path, tiny, local, records):
    pyarrow.parquet.write_table(pa.table({"uri": [f"{number}.wav" for number in range(20)]}), tmp_path / "songs.parquet")
    assert run_job(str(tmp_path / "songs.parquet"), model=tiny).exit_code == 4
    (content,) = records().values()
    assert (content["exit_code"], content["stopped"]) == (4, "over --max-failures: 20 of 20 tracks failed")


def test_a_stopped_run_has_its_reason_and_what_is_left(songs, tiny, local, records):
    assert run_job(songs, model=tiny, deadline="0s").exit_code == 7
    (content,) = records().values()
    assert (content["exit_code"], content["ok"], content["left"]) == (7, 0, 2)
    assert content["stopped"].startswith("stopped at its deadline")


def test_a_second_signal_leaves_a_record_too(songs, tiny, local, records, monkeypatch):
    def signalled(_flow):
        for _ in range(2):
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)
        yield None

    monkeypatch.setattr(LocalFlow, "rows", signalled)
    with pytest.raises(KeyboardInterrupt):
        run_job(songs, model=tiny)
    (content,) = records().values()
    assert (content["exit_code"], content["error"], content["left"]) == (7, "stopped by a signal", 2)


def test_a_run_that_a_full_disk_ends_has_the_error_in_its_record(songs, tiny, local, records, monkeypatch):
    put = storage.put

    def full(uri, content, **options):
        if uri.endswith(".flac"):
            raise retries.write_error(uri, OSError(errno.ENOSPC, "No space left on device"))
        put(uri, content, **options)

    monkeypatch.setattr(storage, "put", full)
    with pytest.raises(errors.NotRunnableError) as raised:
        run_job(songs, model=tiny)
    (content,) = records().values()
    assert (content["exit_code"], content["error"], content["left"]) == (5, str(raised.value), 2)
    assert "No space left on device" in content["error"]


def test_a_storage_that_fails_outside_of_the_flow_has_its_error_in_the_record(songs, tiny, local, records, monkeypatch):
    def denied(*_arguments, **_options):
        raise errors.WriteFailed("index.parquet: could not be written")

    monkeypatch.setattr("sep_batch.pipeline.out.index.publish", denied)
    with pytest.raises(errors.NotRunnableError):
        run_job(songs, model=tiny)
    (content,) = records().values()
    assert (content["exit_code"], content["error"]) == (5, "OUT index.parquet: could not be written")


def test_a_defect_is_one_line_of_the_record(songs, tiny, local, records, monkeypatch):
    def broken(*_arguments, **_options):
        raise KeyError("planted")

    monkeypatch.setattr(stems, "write", broken)
    with pytest.raises(errors.BugError):
        run_job(songs, model=tiny)
    (content,) = records().values()
    assert content["exit_code"] == 1
    assert content["error"].startswith("a defect of sep-batch, on track ")
    assert content["error"].endswith("KeyError: 'planted'")


def test_runs_that_do_nothing_have_one_record_a_day_and_exit_code(songs, tiny, local, records):
    run_job(songs, model=tiny)
    for _ in range(2):
        assert run_job(songs, model=tiny).run is None
        with pytest.raises(errors.SettingsDifferError):
            run_job(songs, model=tiny, format="wav")
    first, idle, refused = records().values()
    assert (idle["run"], idle["exit_code"], idle["done_before"], idle["left"]) == (None, 0, 2, 0)
    assert (refused["run"], refused["exit_code"], refused["left"]) == (None, 6, None)
    assert "holds stems made with other settings: --format" in refused["error"]
    assert first["ok"] == 2
    assert [name[:11] for name in records()] == [first["run"], "000002-none", "000002-none"]


def test_a_run_that_does_not_get_the_lease_leaves_no_record(songs, tiny, local, records, tmp_path):
    with lease.hold(str(tmp_path / "songs.stems")), pytest.raises(errors.LeaseHeldError):
        run_job(songs, model=tiny)
    assert records() == {}


@pytest.mark.parametrize("uris", [["300.wav"], ["300.wav", "gone.wav"]], ids=["ok", "failed"])
def test_a_record_that_cannot_be_written_is_one_warning_and_the_same_exit_code(
    uris, songs, tiny, local, records, tmp_path, monkeypatch, caplog
):
    put, expected = storage.put, 0 if len(uris) == 1 else 3
    pyarrow.parquet.write_table(pa.table({"uri": uris}), tmp_path / "songs" / "list.parquet")

    def denied(uri, content, **options):
        if "/runs/" in uri:
            raise retries.write_error(uri, PermissionError(errno.EACCES, "Permission denied"))
        put(uri, content, **options)

    monkeypatch.setattr(storage, "put", denied)
    summary = run_job(str(tmp_path / "songs" / "list.parquet"), str(tmp_path / "songs.stems"), model=tiny)
    assert (summary.exit_code, records()) == (expected, {})
    (warning,) = [message for message in caplog.messages if "record" in message]
    assert warning.startswith("warning: this run has no record in status --history: ")
    assert "could not be written (Permission denied)" in warning


def test_no_secret_is_in_a_record(songs, tiny, local, records, tmp_path):
    secrets = tmp_path / f"{CANARY}.json"
    secrets.write_text(json.dumps({"s3://bucket/": {"key": CANARY, "secret": CANARY}}))
    run_job(songs, model=tiny, storage_options=str(secrets), endpoint_url=f"http://{CANARY}:9000", scratch=f"/tmp/{CANARY}")
    (content,) = records().values()
    assert CANARY not in json.dumps(content)


def test_every_option_is_recorded_or_left_out_for_a_reason():
    fields = {field.name for field in dataclasses.fields(Options)}
    are_settings = set(Settings.model_fields)
    left_out = {
        "more",
        "storage_options",
        "endpoint_url",
        "scratch",
        "input_root",
        "uri_column",
        "id_column",
        "device",
        "flush_s",
    }
    assert fields - are_settings - left_out == set(record.OPTIONS)


def test_verify_takes_records_for_no_leftover_and_a_repair_leaves_them(songs, tiny, local, records, tmp_path):
    run_job(songs, model=tiny)
    run_job(songs, model=tiny)
    before = records()
    out = tmp_path / "songs.stems"
    assert run_verify(str(out)).counts == {}
    next(out.rglob("*.flac")).unlink()
    for path in (out / "_sep" / "runs").iterdir():
        os.utime(path, (0, 0))  # old enough to be removed
    assert run_verify(str(out), repair=True, yes=True).repaired["marked"] == 1
    assert records() == before


def test_the_models_of_gpus_are_those_that_the_driver_lists(tmp_path, monkeypatch):
    for number in range(2):
        (tmp_path / "gpus" / f"0000:0{number}:00.0").mkdir(parents=True)
        (tmp_path / "gpus" / f"0000:0{number}:00.0" / "information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 42\n")
    monkeypatch.setattr(machine, "DRIVER", tmp_path)
    assert machine.gpu_models() == ["NVIDIA H200"] * 2
