"""infra/kuberay: Kubernetes' own objects against their published schemas, KubeRay's against the fields of its reference."""

from __future__ import annotations

import re
import tomllib

import pytest
from infra_files import INFRA, ROOT, documents, passes, tool

KUBERAY = INFRA / "kuberay"
APPLIED = (".", "cluster", "job", "nightly")
KUBERNETES = "1.32"
# No package carries KubeRay's definitions. These are the fields in use, as the reference of KubeRay 1.6 names and types them:
# https://docs.ray.io/en/master/cluster/kubernetes/references/api.html
POD_TEMPLATE, SECURITY, STRINGS = "PodTemplateSpec", "SecurityContext", {str: str}
GROUP = {"rayStartParams": STRINGS, "template": POD_TEMPLATE}
CLUSTER = {
    "rayVersion": str,
    "authOptions": {"mode": str, "secretName": str},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {"idleTimeoutSeconds": int, "securityContext": SECURITY},
    "headGroupSpec": GROUP,
    "workerGroupSpecs": [{"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, **GROUP}],
}
JOB = {
    "entrypoint": str,
    "rayClusterSpec": CLUSTER,
    "runtimeEnvYAML": str,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "activeDeadlineSeconds": int,
    "backoffLimit": int,
    "submitterConfig": {"backoffLimit": int},
}
SPECS = {"RayCluster": CLUSTER, "RayJob": JOB}


def build(name):
    """Return the objects that `kubectl apply -k` would send."""
    return documents(passes(tool("kubectl"), "kustomize", KUBERAY / name))


def validate(found):
    """Hold an object of Kubernetes' own to its schema, unknown fields refused."""
    pytest.importorskip("kubernetes_validate").validate(found, KUBERNETES, strict=True)


def hold(found, expected, where=""):
    """Hold a value to the fields and types expected of it."""
    if expected == POD_TEMPLATE:
        named = {"metadata": {}, **found}
        validate({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": named})
    elif expected == SECURITY:
        pod = {"containers": [{"name": "x", "securityContext": found}]}
        validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod})
    elif expected is STRINGS:
        assert all(isinstance(text, str) for pair in found.items() for text in pair), where
    elif isinstance(expected, list):
        for one in found:
            hold(one, expected[0], where)
    elif isinstance(expected, dict):
        assert set(found) - set(expected) == set(), where
        for name in found:
            hold(found[name], expected[name], f"{where}.{name}")
    else:
        assert type(found) is expected, where


@pytest.mark.parametrize("name", APPLIED)
def test_what_is_applied_fits_the_schemas(name):
    for found in build(name):
        if found["kind"] in SPECS:
            assert found["apiVersion"] == "ray.io/v1"
            hold(found["spec"], SPECS[found["kind"]], found["kind"])
        else:
            validate(found)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        (".", {"Namespace", "NetworkPolicy"}),
        ("cluster", {"RayCluster"}),
        ("job", {"RayJob"}),
        ("nightly", {"CronJob"}),
    ],
)
def test_each_folder_applies_its_own_objects_into_the_namespace(name, kinds):
    found = build(name)
    assert {one["kind"] for one in found} == kinds
    assert {one["metadata"].get("namespace", one["metadata"]["name"]) for one in found} == {"sep-batch"}


def ray_cluster():
    """Return the one description of a cluster's nodes."""
    return documents((KUBERAY / "cluster" / "cluster.yaml").read_text())[0]["spec"]


def pods():
    """Return each pod of the manifests, by a name."""
    spec = ray_cluster()
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]} | {"head": spec["headGroupSpec"]}
    nightly = documents((KUBERAY / "nightly" / "cron-job.yaml").read_text())[0]["spec"]["jobTemplate"]["spec"]
    return {name: group["template"]["spec"] for name, group in groups.items()} | {"nightly": nightly["template"]["spec"]}


def gib(quantity):
    """Return a quantity of memory in GiB."""
    return int(re.fullmatch(r"(\d+)Gi", quantity)[1])


@pytest.mark.parametrize("name", ["head", "cpu", "gpu", "nightly"])
def test_no_pod_runs_as_root_and_each_has_room_for_rays_object_store(name):
    pod = pods()[name]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    (volume,) = pod["volumes"]
    assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
    assert volume["emptyDir"]["medium"] == "Memory"
    store = (
        0.8 if name == "nightly" else 0.3 * gib(container["resources"]["limits"]["memory"])
    )  # sep-batch's own Ray; a cluster's
    assert gib(volume["emptyDir"]["sizeLimit"]) >= store


def test_only_the_gpu_nodes_ask_for_gpus_and_the_run_asks_for_what_the_groups_may_bring():
    groups = {group["groupName"]: group for group in ray_cluster()["workerGroupSpecs"]}
    limits = {name: group["template"]["spec"]["containers"][0]["resources"]["limits"] for name, group in groups.items()}
    assert [name for name in limits if "nvidia.com/gpu" in limits[name]] == ["gpu"]
    job = documents((KUBERAY / "job" / "job.yaml").read_text())[0]["spec"]["entrypoint"]
    flags = dict(re.findall(r"--(gpus|cpus) (\d+)", job))
    assert int(flags["gpus"]) == groups["gpu"]["maxReplicas"] * int(limits["gpu"]["nvidia.com/gpu"])
    assert int(flags["cpus"]) == groups["cpu"]["maxReplicas"] * int(limits["cpu"]["cpu"])


def test_the_image_is_of_this_version_and_rays_version_is_the_one_installed():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in ("cluster", "job", "nightly"):
        images = set(re.findall(r'"?image"?: (\S+)', passes(tool("kubectl"), "kustomize", KUBERAY / name)))
        assert images == {f"registry.example/sep-batch:{version}"}
    assert f"ray=={ray_cluster()['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()


def test_no_secret_lies_in_the_manifests():
    assert not [path for path in KUBERAY.rglob("*.yaml") if "kind: Secret" in path.read_text()]
    assert ray_cluster()["authOptions"] == {"mode": "token", "secretName": "sep-batch-token"}
