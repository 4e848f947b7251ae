"""The Dockerfile and compose.yaml: linted, held to the schema, the steps replayed; none of it needs a container engine."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib

import pytest
from dockerfile import DOCKERFILE, INSTALL_S, Replay, steps
from infra_files import INFRA, ROOT, documents, passes, tool

COMPOSE = INFRA / "compose.yaml"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def services():
    """Return compose.yaml's services."""
    return documents(COMPOSE.read_text())[0]["services"]


def test_the_dockerfile_is_clean():
    passes(tool("hadolint"), DOCKERFILE)


def test_compose_fits_its_schema():
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE)


@pytest.mark.parametrize("stage", ["sep-batch", "object-store"])
def test_an_image_ends_as_a_user_that_is_not_root(stage):
    users = [rest for name, instruction, rest in steps() if (name, instruction) == (stage, "USER")]
    assert users == ["1000"]  # a number: Kubernetes' runAsNonRoot knows no names


def test_what_is_copied_is_there_and_what_is_not_listed_stays_out():
    listed = {line[1:] for line in (INFRA / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"}
    assert all((ROOT / path).exists() for path in listed)
    copied = [rest.split()[:-1] for _, instruction, rest in steps() if instruction == "COPY" and "--from=" not in rest]
    assert {path for paths in copied for path in paths} - {"."} <= listed
    tool_tables = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.partition("/")[0] for path in tool_tables["package-dir"].values()}
    assert {"LICENSE", "README.md", "setup.py"} | folders <= listed


@pytest.mark.parametrize("path", ["Dockerfile", "compose.yaml", "README.md", "kuberay/image/kustomization.yaml"])
def test_images_are_tagged_with_this_version(path):
    tags = re.findall(r"(?:sep-batch(?:-object-store)?:|newTag: )(\d[\w.]*)", (INFRA / path).read_text())
    assert set(tags) == {VERSION}


def test_services_join_the_stores_loopback_and_share_its_key():
    store = services()["store"]
    for name in ("bucket", "sep-batch"):
        assert services()[name]["network_mode"] == "service:store"
        assert services()[name]["environment"] == store["environment"]
    assert store["environment"]["AWS_SECRET_ACCESS_KEY"].startswith("${STORE_SECRET:?")
    port = next(json.loads(rest)[-1] for stage, what, rest in steps() if (stage, what) == ("object-store", "ENTRYPOINT"))
    assert store["environment"]["AWS_ENDPOINT_URL_S3"].endswith(f":{port}")


def test_the_bucket_service_makes_the_bucket_and_minds_not_that_it_is_there(s3):
    import boto3

    _, *code = services()["bucket"]["entrypoint"]
    for _ in range(2):
        passes(sys.executable, *code)
    assert "stems" in {bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]}


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the image is of Python 3.11")
@pytest.mark.timeout(2 * INSTALL_S)
def test_the_steps_of_the_cpu_image_make_a_sep_batch_that_separates(tmp_path):
    from catalogs import write_tone

    replay = Replay(tmp_path)
    for stage, instruction, rest in steps():
        if stage != "object-store":
            replay.step(instruction, rest)
    (entrypoint,) = (json.loads(rest) for stage, what, rest in steps() if (stage, what) == ("sep-batch", "ENTRYPOINT"))
    program = shutil.which(entrypoint[-1], path=replay.env["PATH"])
    assert program == f"{tmp_path}/opt/sep-batch/bin/sep-batch"
    write_tone(tmp_path / "songs" / "tone.wav", 300, 1.0)
    passes(program, "run", tmp_path / "songs", "--gpus", "0", env=replay.env, cwd=tmp_path, timeout=300)
    assert (tmp_path / "songs.stems" / "index.parquet").exists()
