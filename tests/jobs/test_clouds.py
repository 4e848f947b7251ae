"""Whole commands on S3, on Google Cloud Storage and on Azure Blob Storage; runs that are killed there are in tests/faults."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest
from catalogs import finished, stems_below, write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.doctor import check_software, check_storage, doctor
from sep_batch.jobs.export.export import run_export
from sep_batch.jobs.plan.plan import run_plan
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.status.status import run_status
from sep_batch.jobs.verify.verify import run_verify
from sep_batch.jobs.withdraw.withdraw import run_withdraw
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import lease
from sep_batch.pipeline.storage import retries

TONES = (300, 500, 700)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.01)
    yield
    storage.use({})


@pytest.fixture
def place(cloud, tmp_path):
    """A prefix with three tones, where OUT goes, and how both are reached: the options, and the file that names them."""
    folder = f"{cloud.uri}/{secrets.token_hex(4)}"
    for hz in TONES:
        storage.put(f"{folder}/in/{hz}.wav", write_tone(tmp_path / f"{hz}.wav", hz).read_bytes())
    (tmp_path / "options.json").write_text(json.dumps(cloud.options))
    return SimpleNamespace(
        source=f"{folder}/in", out=f"{folder}/out", options=cloud.options, file=str(tmp_path / "options.json"), folder=folder
    )


def hashes(out):
    """Return the sha256 of every stem, by its name below OUT."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in stems_below(out).items()}


def test_every_command_works_on_a_bucket_as_on_a_disk(place, tiny, local, inline_export, tmp_path, monkeypatch):
    summary = run_job(place.source, place.out, model=tiny, gpus=0, storage_options=place.file)
    assert (summary.exit_code, summary.ok) == (0, 3)
    on_disk = str(tmp_path / "out")
    assert run_job(place.source, on_disk, model=tiny, gpus=0, storage_options=place.file).ok == 3
    assert hashes(place.out) == hashes(on_disk)
    assert len(hashes(on_disk)) == 6

    again = run_job(place.source, place.out, model=tiny, gpus=0, storage_options=place.file)
    assert (again.exit_code, again.done_before, again.tried) == (0, 3, 0)
    assert run_plan(place.source, place.out, model=tiny, storage_options=place.file).reasons == {"done": 3}
    report = run_verify(place.out, deep=True)
    assert (report.exit_code, report.counts, report.tracks, report.stems) == (0, {}, {"ok": 3}, 6)
    status = run_status(place.out)
    assert (status.done, status.failed, status.pending) == (3, {}, 0)
    exported = run_export(place.out, f"{place.folder}/dataset", to="webdataset", storage_options=place.file)
    assert exported.exit_code == 0
    assert [info.uri.endswith(".tar") for info in storage.find(f"{place.folder}/dataset/train")] == [True]
    withdrawn_id = min(finished(place.out))
    assert run_withdraw(place.out, [withdrawn_id], why="claim").stems == 2
    assert (run_verify(place.out, deep=True).tracks, len(hashes(place.out))) == ({"ok": 2, "withdrawn": 1}, 4)
    again = run_job(place.source, place.out, model=tiny, gpus=0, storage_options=place.file)
    assert (again.done_before, again.withdrawn, again.tried) == (2, 1, 0)

    monkeypatch.setattr(doctor, "_BEFORE", [])
    monkeypatch.setattr(check_software, "last_cluster", lambda _address: iter(()))
    monkeypatch.setattr(check_software, "ray_start", lambda _address: check_software.Check("Ray", "2.60.0"))
    told = CliRunner().invoke(app, ["doctor", place.folder, "--storage-options", place.file])
    assert (told.exit_code, f"{place.folder}: written, read, listed, removed" in told.output) == (0, True)
    listed = CliRunner().invoke(
        app, ["manifest", place.source, "--storage-options", place.file, "-o", str(tmp_path / "songs.parquet")]
    )
    assert listed.exit_code == 0, listed.output
    manifest = pyarrow.parquet.read_table(tmp_path / "songs.parquet")
    assert manifest["uri"].to_pylist() == [f"{place.source}/{hz}.wav" for hz in TONES]


def test_of_eight_runs_at_once_one_holds_the_lease(place):
    begin, end = threading.Barrier(8), threading.Barrier(8)

    def held(_number):
        begin.wait()
        with contextlib.ExitStack() as holding:
            with contextlib.suppress(errors.LeaseHeldError):
                holding.enter_context(lease.hold(place.out))
                end.wait()
                return True
            end.wait()
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(held, range(8))) == 1


def missing_bucket(uri):
    return f"{uri.partition('://')[0]}://no-such-bucket/songs"


def test_a_bucket_that_is_not_there_ends_the_run_and_marks_no_track(place, tiny, local, tmp_path):
    manifest = str(tmp_path / "songs.csv")
    for source, out in ((missing_bucket(place.source), place.out), (place.source, missing_bucket(place.source))):
        with pytest.raises(errors.NotRunnableError, match="NoSuchBucket|ContainerNotFound"):
            run_job(source, out, model=tiny, gpus=0, storage_options=place.file)
    (tmp_path / "songs.csv").write_text(f"uri\n{missing_bucket(place.source)}/a.wav\n{missing_bucket(place.source)}/b.wav\n")
    with pytest.raises(errors.NotRunnableError, match="NoSuchBucket|ContainerNotFound"):
        run_job(manifest, place.out, model=tiny, gpus=0, storage_options=place.file)
    assert finished(place.out) == {}


ADVICE = {"s3": "AWS_ACCESS_KEY_ID", "gs": "GOOGLE_APPLICATION_CREDENTIALS", "az": "AZURE_STORAGE_ACCOUNT_NAME"}


def test_doctor_says_what_to_do_where_the_bucket_is_missing_or_the_credentials_are_not_taken(place):
    scheme = place.folder.partition("://")[0]
    missing = list(check_storage.checks(missing_bucket(place.folder), place.options))[-1]
    assert (missing.state, missing.advice.startswith("create the bucket")) == ("wrong", True)
    refused = errors.OutUnusable("refused")
    refused.__cause__ = errors.StorageUnusable("no client could be made")
    assert ADVICE[scheme] in check_storage.advice(refused, "write", place.folder)


def test_a_track_that_is_not_there_is_its_failed_row(place, tiny, local, tmp_path):
    uris = [f"{place.source}/{name}.wav" for name in ("300", "gone")]
    pyarrow.parquet.write_table(pa.table({"uri": uris}), tmp_path / "songs.parquet")
    summary = run_job(str(tmp_path / "songs.parquet"), place.out, model=tiny, gpus=0, storage_options=place.file)
    assert (summary.exit_code, summary.ok, summary.failed) == (3, 1, {"not_found": 1})


@pytest.mark.parametrize(("scheme", "package", "extra"), [("gs", "gcsfs", "gcs"), ("abfs", "adlfs", "azure")])
def test_a_missing_package_ends_a_run_and_a_plan_before_they_begin(scheme, package, extra, tiny, local, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    tone = write_tone(tmp_path / "a.wav")
    (tmp_path / "songs.csv").write_text(f"uri\n{tone}\n{scheme}://bucket/b.wav\n")
    (tmp_path / "local.csv").write_text(f"uri\n{tone}\n")
    for name, out in (("songs.csv", str(tmp_path / "out")), ("local.csv", f"{scheme}://bucket/out")):
        for command in (run_job, run_plan):
            with pytest.raises(errors.NotRunnableError, match=rf"{scheme}://bucket/.*; install the extra {extra}: ") as raised:
                command(str(tmp_path / name), out, model=tiny, gpus=0)
            assert raised.value.exit_code == 5
    assert not (tmp_path / "out").exists()
