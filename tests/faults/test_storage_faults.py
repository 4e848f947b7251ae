"""What a run makes of a storage that fails: each fault between it and the S3 server, played once or for ever."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
from catalogs import finished, stems_below, write_tone
from faults.plan import Fault, Kind
from faults.proxy import faulty

from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import index
from sep_batch.pipeline.storage import retries

TONES = (300, 500, 700)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Keep pauses and time limits as short as a test's, and forget how storage was reached."""
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.05)
    monkeypatch.setitem(storage.filesystems._S3_CONFIG, "read_timeout", 1)
    yield
    storage.use({})


@pytest.fixture(scope="module")
def source(s3, tmp_path_factory):
    """A prefix with three tones."""
    folder = tmp_path_factory.mktemp("tones")
    for hz in TONES:
        storage.put(f"{s3}/storage-faults/in/{hz}.wav", write_tone(folder / f"{hz}.wav", hz).read_bytes())
    return f"{s3}/storage-faults/in"


@pytest.fixture
def out(s3, tmp_path):
    return f"{s3}/{tmp_path.name}"


@pytest.fixture
def undisturbed(source, tiny, local, tmp_path, known={}):  # noqa: B006 (made once)
    """What a run leaves that nothing disturbs, by the stems' names below OUT."""
    if not known:
        assert run_job(source, str(tmp_path / "undisturbed"), model=tiny, gpus=0).exit_code == 0
        known |= stems_below(tmp_path / "undisturbed")
    return known


def separate(source, out, model, s3_endpoint, *faults):
    """Run the catalog with these faults between it and its storage."""
    try:
        with faulty(s3_endpoint, *faults) as endpoint:
            return run_job(source, out, model=model, gpus=0, endpoint_url=endpoint)
    finally:
        storage.use({})


PASSING = {  # faults of one run, each of requests that no other of them meets
    "errors and slow-downs": [
        Fault(Kind.INTERNAL_ERROR, "PUT", ".flac", times=3),
        Fault(Kind.SLOW_DOWN, "GET", "in/500.wav", times=3),
        Fault(Kind.SLOW_DOWN, "GET", "list-type=2", times=3),
        Fault(Kind.INTERNAL_ERROR, "PUT", "/index.parquet", times=2),
    ],
    "connections that end": [
        Fault(Kind.RESET_BEFORE, "GET", "in/300.wav", times=2),
        Fault(Kind.RESET_BEFORE, "HEAD", "in/", times=3),
        Fault(Kind.TRUNCATE, "GET", "in/700.wav", times=2),
        Fault(Kind.DROP, "PUT", ".flac", times=2),
        Fault(Kind.DROP, "PUT", "/lease/", times=1),
    ],
    "connections that end amid or stall": [
        Fault(Kind.RESET_AMID, "GET", "in/300.wav", times=2),
        Fault(Kind.STALL, "GET", "in/700.wav", times=2, seconds=3),
        Fault(Kind.DROP, "PUT", "/journal/", times=1),
    ],
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_faults_that_pass_change_nothing(source, out, tiny, local, s3_endpoint, undisturbed, faults):
    for fault in faults:
        fault.seen = fault.fired = 0
    summary = separate(source, out, tiny, s3_endpoint, *faults)
    assert [fault.fired for fault in faults] == [fault.times for fault in faults]
    assert (summary.exit_code, summary.ok, summary.failed) == (0, 3, {})
    assert stems_below(out) == undisturbed


def test_an_object_that_storage_never_gives_fails_as_transient_and_the_next_run_mends_it(
    source, out, tiny, local, s3_endpoint, undisturbed
):
    summary = separate(source, out, tiny, s3_endpoint, Fault(Kind.INTERNAL_ERROR, "GET", "in/500.wav", times=math.inf))
    assert (summary.exit_code, summary.ok, summary.failed) == (3, 2, {"fetch_timeout": 1})
    (failed,) = index.read(out).filter(pa.compute.field("status") == "failed").to_pylist()
    assert failed["transient"]
    again = separate(source, out, tiny, s3_endpoint)
    assert (again.exit_code, again.done_before, again.ok) == (0, 2, 1)
    assert stems_below(out) == undisturbed


SYSTEMIC = [
    Fault(Kind.EXPIRED_TOKEN, "", "in/", nth=4, times=math.inf),
    pytest.param(Fault(Kind.EXPIRED_TOKEN_400, "", "in/", nth=4, times=math.inf), marks=pytest.mark.slow),
    Fault(Kind.EXPIRED_TOKEN, "PUT", ".flac", nth=3, times=math.inf),
    Fault(Kind.INTERNAL_ERROR, "", "", nth=30, times=math.inf),
]


@pytest.mark.parametrize("fault", SYSTEMIC, ids=lambda fault: f"{fault.kind.name}-{fault.method}-{fault.key.strip('/')}")
def test_a_storage_that_fails_ends_the_run_and_marks_no_track(source, out, tiny, local, s3_endpoint, undisturbed, fault):
    fault.seen = fault.fired = 0
    with pytest.raises(errors.NotRunnableError) as ended:
        separate(source, out, tiny, s3_endpoint, fault)
    assert fault.fired
    assert len(str(ended.value).splitlines()) == 1
    assert {row.status for row in finished(out).values()} <= {"ok"}
    storage.remove(f"{out}/_sep/lease")  # its run is this program, which lives on
    again = separate(source, out, tiny, s3_endpoint)
    assert (again.exit_code, again.done_before + again.ok) == (0, 3)
    assert stems_below(out) == undisturbed


def test_a_model_with_a_flipped_byte_is_refused_and_fetched_again(source, out, tiny, local, s3_endpoint, undisturbed):
    for path in Path(tiny).iterdir():
        storage.put(f"{out}-model/{path.name}", path.read_bytes())
    flip = Fault(Kind.FLIP, "GET", "model/model.safetensors")
    with pytest.raises(errors.NotRunnableError, match="weights: .*sha256"):
        separate(source, out, f"{out}-model", s3_endpoint, flip)
    assert flip.fired == 1
    assert separate(source, out, f"{out}-model", s3_endpoint).ok == 3
    assert stems_below(out) == undisturbed


def test_a_bucket_that_is_gone_ends_the_run(source, out, tiny, local, s3_endpoint):
    rows = [{"uri": f"s3://gone/{hz}.wav"} for hz in TONES]
    storage.put(f"{out}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    with pytest.raises(errors.NotRunnableError, match="NoSuchBucket"):
        run_job(f"{out}.jsonl", out, model=tiny, gpus=0)
    with pytest.raises(errors.NotRunnableError, match="NoSuchBucket"):
        run_job(source, "s3://gone/out", model=tiny, gpus=0)


def test_a_wrong_key_ends_the_run_and_shows_no_secret(source, out, tiny, local, s3_server, tmp_path):
    if s3_server != "swift":
        pytest.skip("moto takes any key")
    options = tmp_path / "options.json"
    options.write_text(json.dumps({source: {"key": "sep:batch", "secret": "canary-7f3a"}}))
    storage.put(f"{out}.jsonl", json.dumps({"uri": f"{source}/300.wav"}).encode())
    with pytest.raises(errors.NotRunnableError, match="SignatureDoesNotMatch") as ended:
        run_job(f"{out}.jsonl", out, model=tiny, gpus=0, storage_options=str(options))
    assert "canary" not in str(ended.value)
    assert finished(out) == {}
    storage.remove(f"{out}/_sep/lease")
    assert run_job(f"{out}.jsonl", out, model=tiny, gpus=0).ok == 1
