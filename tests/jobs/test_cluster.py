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
from pathlib import Path

import pytest
from catalogs import stems_below, write_tone
from faults.killing import pending

from sep_batch.jobs.run import run_job
from sep_batch.pipeline import index, storage

ONE_RUN = Path(__file__).parent.parent / "faults" / "one_run.py"
TRACKS = 24
LOST_S = 3.0  # in place of minutes: how long a node that was killed is waited for
UNDER_WAY_S = 120


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


def on_s3(s3, out):
    return {found.uri.partition(f"/{out}/")[2]: storage.read(found.uri) for found in storage.find(f"{s3}/{out}/stems")}


def test_each_stage_is_where_its_resources_are_and_a_killed_node_costs_only_what_it_held(
    cluster, catalog, s3, tiny, tmp_path, inline
):
    run_job(str(catalog), str(tmp_path / "undisturbed"), model=tiny, gpus=0)
    for path in catalog.iterdir():
        storage.put(f"{s3}/cluster/{path.name}", path.read_bytes())
    out = f"{s3}/clusterout"
    run = start(cluster, tmp_path / "log", source=f"{s3}/cluster", out=out, model=tiny)
    try:
        deadline = time.monotonic() + UNDER_WAY_S
        while (left := pending(out, TRACKS)) > TRACKS - 3:
            assert run.poll() is None, (tmp_path / "log").read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        landed = places(cluster)
        os.kill(cluster.named["gpu-2"].all_processes["raylet"][0].process.pid, signal.SIGKILL)
        code = run.wait(240)
    finally:
        if run.poll() is None:
            run.kill()
    told = (tmp_path / "log").read_text()
    assert landed == {"Analyze": {"cpu"}, "Separate": {"gpu-1", "gpu-2"}, "Write": {"cpu"}}
    assert left, "the node was killed too late"
    assert code == 0, told[-3000:]
    rows = index.read(out).to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * TRACKS
    assert {row["attempts"] for row in rows} == {1}
    assert on_s3(s3, "clusterout") == stems_below(tmp_path / "undisturbed")
    assert not [uri for uri in storage.find(f"{out}/_sep") if "/plan/" in uri.uri or "/parts/" in uri.uri]
