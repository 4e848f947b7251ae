"""What tests share: tiny models made of the golden checkpoints, flows without Ray, one Ray, one S3 server."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

with contextlib.closing(socket.socket()) as free:
    free.bind(("127.0.0.1", 0))
    S3_PORT = free.getsockname()[1]
# Read once: by Ray when it is imported, by its workers when they start.
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{S3_PORT}",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Folders of the golden checkpoints, converted, by the golden set's name."""
    import golden_models

    from sep_batch.model import weights

    folder = tmp_path_factory.mktemp("models")
    return {
        name: weights.convert(*golden_models.files(name), golden_models.spec(name), folder / name)[0]
        for name in golden_models.SETS
    }


@pytest.fixture
def tiny(tiny_models):
    """The golden 2stems model's folder, as --model takes it."""
    return str(tiny_models["2stems"])


@pytest.fixture
def inline(monkeypatch):
    """Have flows run in this process, stage after stage, without Ray; yields the resources that runs asked for."""
    from sep_batch.jobs import run
    from sep_batch.pipeline import flow, join, stages
    from sep_batch.pipeline.manifest import read_plan

    asked = []

    def build(plan, work, model, resources):
        asked.append(resources)
        chain = (stages.Analyze(work), stages.Separate(work, model, device="cpu"), stages.Write(work))
        return plan, chain

    def finished_rows(dataset, work):
        plan, (analyze, separate, write) = dataset
        gathering = join.Gathering()
        for uri in plan:
            for block in read_plan(uri):
                for part in analyze(block):
                    for separated in separate(part):
                        for row in write(separated):
                            finished, whole = gathering.take(row)
                            yield from finished
                            yield from (join.join(parts, work) for parts in whole)

    @contextlib.contextmanager
    def ray(wanted):
        yield flow.plan_resources(wanted.cpus or 2, 0)

    monkeypatch.setattr(flow, "build", build)
    monkeypatch.setattr(flow, "finished_rows", finished_rows)
    monkeypatch.setattr(flow, "stop", lambda _dataset: None)
    monkeypatch.setattr(flow, "stats", lambda _dataset: "")
    monkeypatch.setattr(run, "_ray", ray)
    return asked


@pytest.fixture(scope="session")
def one_ray():
    """One Ray for the whole session, with two logical GPUs that no torch can use."""
    import ray

    ray.init(
        num_cpus=4,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=512 << 20,
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def s3():
    """An S3 server on loopback, with one bucket; yields its URI."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=S3_PORT, verbose=False)
    server.start()
    boto3.client("s3").create_bucket(Bucket="songs")
    yield "s3://songs"
    server.stop()
