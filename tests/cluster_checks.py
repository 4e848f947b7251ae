"""What a driver finds out about a cluster before it works: takes its address, prints what each check said as JSON."""

from __future__ import annotations

import json
import sys

import ray

from sep_batch.jobs.engine import cluster
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors
from sep_batch.pipeline.stages import machine_requirements
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements

told: list[str] = []


def said(check, *arguments, **options):
    """Return what a check returns, or refuses with."""
    try:
        return check(*arguments, **options)
    except errors.RunError as error:
        return f"{type(error).__name__}: {error}"


ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
nodes = cluster.nodes()
odd = [node for node in nodes if node.name == "odd"]
found = {
    "nodes": {node.name: [node.cpus, node.gpus] for node in nodes if node.name.startswith(("cpu", "gpu"))},
    "too many": said(cluster.wait_for_gpus, Options(gpus=5), told.append, wait_s=2),
    "told": sorted(set(told)),
    "some": said(cluster.wait_for_gpus, Options(gpus=5, min_gpus=2), told.append, wait_s=2),
    "auto": said(cluster.wait_for_gpus, Options(), told.append),
    "alike": said(cluster.refuse_other_versions, [node for node in nodes if node not in odd]),
    "odd": said(cluster.refuse_other_versions, nodes),
    "local": said(cluster.refuse_others_disk, nodes, MachineRequirements(machine_requirements.versions(), "/data/out")),
    "shared": said(cluster.refuse_others_disk, nodes, MachineRequirements(machine_requirements.versions())),
    "alone": said(cluster.refuse_others_disk, nodes[:1], MachineRequirements(machine_requirements.versions(), "/data/out")),
}
sys.stdout.write(json.dumps(found))
