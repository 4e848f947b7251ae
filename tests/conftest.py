"""Fixtures that tests share: tiny models made of the golden checkpoints, the local engine, one Ray, one S3 server."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parent / "hostile"))  # where craft is

import cloud_servers
import s3_servers

S3_ADDRESS = socket.socket()  # bound and kept, so that nobody else is given its port before the server listens there
S3_ADDRESS.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
S3_ADDRESS.bind(("127.0.0.1", 0))
S3_PORT = S3_ADDRESS.getsockname()[1]
WHY_NOT_SWIFT = pytest.StashKey[str]()
# Read once: by Ray when it is imported, by its workers when they start.
os.environ |= {
    "AWS_ACCESS_KEY_ID": "sep:batch",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{S3_PORT}",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the CPUs: torch's threads would wait for each other
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

GROUP = pytest.StashKey[str]()
# Groups of tests, by the fixture that they share.
TOGETHER = {"one_ray": "ray", "s3_server": "s3", "gs_server": "s3", "az_server": "s3", "cloud": "s3"}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config, items):
    """Under pytest-xdist, have a file's tests in one process, and all that share a Ray or a server; those of Ray come first."""
    if not config.pluginmanager.has_plugin("xdist"):
        return
    for item in items:
        asked = {*item.fixturenames, *(f"{value}_server" for value in _parameters(item) if value in ("s3", "gs", "az"))}
        shared = [TOGETHER[name] for name in TOGETHER if name in asked]
        item.stash[GROUP] = shared[0] if shared else str(item.path)
        item.add_marker(pytest.mark.xdist_group(item.stash[GROUP]))
    items.sort(key=lambda item: (item.stash[GROUP] != "ray", item.stash[GROUP] != "s3"))  # stable


def _parameters(item):
    return [value for value in item.callspec.params.values() if isinstance(value, str)] if hasattr(item, "callspec") else []


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """End the shared Ray after the last of its tests: an idle one takes a tenth of a core."""
    if item.stash.get(GROUP, None) == "ray" and not (nextitem and nextitem.stash[GROUP] == "ray"):
        import ray

        ray.shutdown()


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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of the golden 2stems model over a shorter STFT, as --model takes it: an eighth of the arithmetic."""
    import golden_models

    from sep_batch.model import weights

    folder = tmp_path_factory.mktemp("tiny") / "2stems"
    return str(weights.convert(*golden_models.files("2stems"), golden_models.narrow_spec("2stems"), folder)[0])


@pytest.fixture(scope="session")
def separators():
    """The separators that the local engine has built, by spec, weights and options: building one takes longer than a song."""
    return {}


@pytest.fixture
def local(monkeypatch, separators):
    """Have runs take the local engine, whatever Ray there is; yields the resources that they asked for, flow by flow."""
    from sep_batch.jobs.bench import steps  # noqa: F401 (has a subclass of Separator, which is replaced below)
    from sep_batch.jobs.engine import choice
    from sep_batch.model import separator
    from sep_batch.pipeline.flow import local_flow

    asked, build_separator = [], separator.Separator

    def cached(spec, tensors, **options):
        key = (spec, *sorted(options.items()))
        if key not in separators:
            separators[key] = build_separator(spec, tensors, **options)
        return separators[key]

    class Recorded(local_flow.LocalFlow):
        def __init__(self, plan, work, model, resources, **options):
            asked.append(resources)
            super().__init__(plan, work, model, resources, **options)

    monkeypatch.setattr(separator, "Separator", cached)
    monkeypatch.setattr(local_flow, "LocalFlow", Recorded)
    monkeypatch.setattr(choice, "before_planning", lambda _options: choice.Choice("local", "a test"))
    return asked


@contextlib.contextmanager
def without_ray(wanted, like, say=None):
    """Share this machine out as `engine.running` does."""
    from sep_batch.pipeline.flow.resources import plan_resources

    yield plan_resources(wanted.cpus or 2, 0)


@pytest.fixture
def inline_export(monkeypatch):
    """Have exports run in this process, shard after shard, without Ray."""
    from sep_batch.jobs.engine import engine
    from sep_batch.pipeline.export import flow as export_flow
    from sep_batch.pipeline.export.shards import make_shard
    from sep_batch.pipeline.out.plan import read_plan

    class Flow:
        def __init__(self, plan, export, *, cpus):
            self._plan, self._export = plan, export

        def rows(self):
            for uri in self._plan:
                yield from (make_shard(planned, self._export) for planned in read_plan(uri).to_pylist())

        def stop(self):
            pass

    monkeypatch.setattr(export_flow, "ExportFlow", Flow)
    monkeypatch.setattr(engine, "look_ahead", lambda _wanted, _say=None: None)
    monkeypatch.setattr(engine, "running", without_ray)


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
def s3_server(request, tmp_path_factory):
    """The S3 server of AWS_ENDPOINT_URL_S3; yields its name: swift, or moto where Swift cannot run.

    moto is a mock. It takes any key and secret, so a test of those skips it.
    """
    folder = tmp_path_factory.mktemp("s3")
    if why := s3_servers.why_not_swift(folder):
        request.config.stash[WHY_NOT_SWIFT] = why
        warnings.warn(f"S3 is moto's mock, not Swift: {why}", stacklevel=1)
    with s3_servers.moto(S3_PORT) if why else s3_servers.swift(folder, S3_PORT):
        yield "moto" if why else "swift"


@pytest.fixture(scope="session")
def s3(s3_server):
    """A bucket on the S3 server; returns its URI."""
    import boto3

    boto3.client("s3").create_bucket(Bucket="songs")
    return "s3://songs"


@pytest.fixture(scope="session")
def s3_endpoint(s3):
    """Where the S3 server listens."""
    return os.environ["AWS_ENDPOINT_URL_S3"]


def _server(scheme, tmp_path_factory):
    if why := cloud_servers.why_not(scheme):
        pytest.skip(f"{scheme}:// cannot be tested: {why}")
    with cloud_servers.running(scheme, tmp_path_factory.mktemp(scheme)) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def gs_server(tmp_path_factory):
    """A bucket on a server that stands for Google Cloud Storage."""
    yield from _server("gs", tmp_path_factory)


@pytest.fixture(scope="session")
def az_server(tmp_path_factory):
    """A container on a server that stands for Azure Blob Storage."""
    yield from _server("az", tmp_path_factory)


@pytest.fixture(params=["s3", "gs", "az"])
def cloud(request):
    """A bucket of each kind of object storage; this process reaches it as long as the test runs."""
    from sep_batch.pipeline import storage

    if request.param == "s3":
        yield cloud_servers.Cloud(request.getfixturevalue("s3"), {})
        return
    reached = request.getfixturevalue(f"{request.param}_server")
    storage.use(reached.options)
    yield reached
    storage.use({})


def pytest_terminal_summary(terminalreporter, config):
    """Say so where tests ran against the mock."""
    if why := config.stash.get(WHY_NOT_SWIFT, None):
        terminalreporter.write_line(f"S3 was moto's mock, not Swift: {why}", yellow=True)
