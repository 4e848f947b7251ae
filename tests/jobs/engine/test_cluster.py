"""A run on a cluster: several raylets on this machine, each with resources, a temporary folder and an object store of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

import pytest
from catalogs import stems_below, write_tone
from faults.killing import pending
from project_files import TESTS

from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import storage
from sep_batch.pipeline.out import index
from sep_batch.pipeline.stages import machine_requirements

ONE_RUN = TESTS / "faults" / "one_run.py"
TRACKS = 24
LOST_S = 3.0  # in place of minutes: how long a node that was killed is waited for
UNDER_WAY_S = 300


@pytest.fixture(scope="module")
def cluster():
    """A head without CPUs for the driver, a node that decodes and encodes, two with a logical GPU each; by name."""
    from ray.cluster_utils import Cluster

    with contextlib.ExitStack() as stack:

        def folder():
            return stack.enter_context(tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True))

        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "temp_dir": folder(), "include_dashboard": False})
        stack.callback(started.shutdown)
        started.named = {
            name: started.add_node(num_cpus=cpus, num_gpus=gpus, temp_dir=folder(), node_name=name)
            for name, cpus, gpus in (("cpu", 3, 0), ("gpu-1", 0, 1), ("gpu-2", 0, 1))
        }
        yield started


@pytest.fixture(scope="module")
def checked(cluster, tmp_path_factory):
    """What a driver finds out about the cluster, joined by a node that has another sep-batch."""
    other = tmp_path_factory.mktemp("other")
    described = other / "sep_batch-0.0.1.dist-info" / "METADATA"
    described.parent.mkdir()
    described.write_text("Metadata-Version: 2.1\nName: sep-batch\nVersion: 0.0.1\n")
    path = os.pathsep.join([str(other), *filter(None, [os.environ.get("PYTHONPATH")])])
    odd = cluster.add_node(num_cpus=1, node_name="odd", env_vars={"PYTHONPATH": path})
    checks = TESTS / "cluster_checks.py"
    # From an empty folder, for Ray puts the driver's folder first on its workers' paths, and ours may describe sep-batch too.
    command = [sys.executable, checks, cluster.address]
    empty = tmp_path_factory.mktemp("empty")
    told = subprocess.run(command, cwd=empty, capture_output=True, text=True, check=False, timeout=200)
    cluster.remove_node(odd)
    assert not told.returncode, told.stderr[-3000:]
    return json.loads(told.stdout.splitlines()[-1])


def test_the_nodes_of_a_cluster_are_counted_each_with_its_own_cpus_and_gpus(checked):
    assert checked["nodes"] == {"cpu": [3, 0], "gpu-1": [0, 1], "gpu-2": [0, 1]}


def test_gpus_are_waited_for_with_a_clear_line_and_too_few_are_refused_with_what_there_is(checked):
    assert checked["told"] == ["waiting for GPUs: 2 of 5 available; --min-gpus 2 would start now"]
    refusal = "NotRunnableError: --gpus 5: the cluster has 2 GPUs after 2 s; lower --gpus, or add nodes; its nodes: "
    assert checked["too many"].startswith(refusal)
    assert "gpu-1 0 CPUs 1 GPUs" in checked["too many"]
    assert (checked["some"], checked["auto"]) == (2, 2)


def test_a_node_with_other_versions_is_named_with_what_it_has_and_what_the_driver_has(checked):
    ours = machine_requirements.versions()["sep-batch"]
    assert checked["alike"] is None
    said = "NotRunnableError: the cluster's nodes do not match the driver: odd has sep-batch 0.0.1, the driver"
    assert checked["odd"] == f"{said} {ours}; install the driver's versions on every node"


def test_a_path_of_one_machine_is_refused_where_others_would_work_on_it(checked):
    assert checked["local"] == (
        "UsageError: /data/out is a local path, and the cluster has 5 nodes: "
        "use object storage, or add --shared-filesystem if every node sees that path"
    )
    assert (checked["shared"], checked["alone"]) == (None, None)


@pytest.fixture
def catalog(tmp_path):
    """Tones of half a second to two seconds on disk; returns their folder."""
    for number in range(TRACKS):
        write_tone(tmp_path / "in" / f"t{number:02d}.wav", 300 + 30 * number, 0.5 + number / 16)
    return tmp_path / "in"


def start(cluster, log, **options):
    """Start a run on the cluster in a process of its own."""
    given = {"address": cluster.address, "gpus": "2", "device": "cpu", "flush_s": 0.1, "lost_s": LOST_S} | options
    with log.open("wb") as told:
        return subprocess.Popen(
            [sys.executable, str(ONE_RUN), json.dumps(given)], stdout=told, stderr=told, start_new_session=True
        )


def places(cluster):
    """Return on which nodes each stage's actors are, or were."""
    nodes = {node.node_id: name for name, node in cluster.named.items()}
    found = defaultdict(set)
    for actor in cluster.global_state.actor_table(None, None, None).values():
        stage = actor["ActorClassName"].removeprefix("MapWorker(MapBatches(").removesuffix("))")
        if stage in {"Analyze", "Separate", "Write"} and (node := actor["Address"]["NodeID"]):
            found[stage].add(nodes.get(node, "head"))
    return dict(found)


def _wait_until(is_so, run, log):
    deadline = time.monotonic() + UNDER_WAY_S
    while not is_so():
        assert run.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_stage_is_where_its_resources_are_and_a_killed_node_costs_only_what_it_held(
    cluster, catalog, s3, tiny, tmp_path, local
):
    for path in catalog.iterdir():
        storage.put(f"{s3}/cluster/{path.name}", path.read_bytes())
    run_job(f"{s3}/cluster", str(tmp_path / "undisturbed"), model=tiny, gpus=0)
    out, log = f"{s3}/clusterout", tmp_path / "log"
    run = start(cluster, log, source=f"{s3}/cluster", out=out, model=tiny)
    try:
        _wait_until(lambda: pending(out, TRACKS) <= TRACKS - 3, run, log)
        left = pending(out, TRACKS)
        landed = places(cluster)
        os.kill(cluster.named.pop("gpu-2").all_processes["raylet"][0].process.pid, signal.SIGKILL)
        code = run.wait(240)
    finally:
        if run.poll() is None:
            run.kill()
    assert landed == {"Analyze": {"cpu"}, "Separate": {"gpu-1", "gpu-2"}, "Write": {"cpu"}}
    assert left, "the node was killed too late"
    assert code == 0, log.read_text()[-3000:]
    rows = index.read(out).to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * TRACKS
    assert {row["attempts"] for row in rows} == {1}
    assert stems_below(f"{s3}/clusterout") == stems_below(tmp_path / "undisturbed")
    assert not [uri for uri in storage.find(f"{out}/_sep") if "/plan/" in uri.uri or "/parts/" in uri.uri]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_starts_with_min_gpus_and_takes_a_node_that_joins_later(cluster, catalog, s3, tiny, tmp_path):
    for number in range(3 * TRACKS):
        content = (catalog / f"t{number % TRACKS:02d}.wav").read_bytes()
        storage.put(f"{s3}/grow/t{number:03d}.wav", content)
    there = sum(name.startswith("gpu") for name in cluster.named)
    out, log = f"{s3}/growout", tmp_path / "log"
    run = start(cluster, log, source=f"{s3}/grow", out=out, model=tiny, gpus=str(there + 1), min_gpus=1)
    try:
        _wait_until(lambda: pending(out, 3 * TRACKS) < 3 * TRACKS, run, log)
        cluster.named["gpu-3"] = cluster.add_node(num_cpus=0, num_gpus=1, node_name="gpu-3")
        _wait_until(lambda: "gpu-3" in places(cluster).get("Separate", set()), run, log)
        assert run.wait(240) == 0, log.read_text()[-3000:]
    finally:
        if run.poll() is None:
            run.kill()
    assert index.read(out).column("status").to_pylist() == ["ok"] * 3 * TRACKS
