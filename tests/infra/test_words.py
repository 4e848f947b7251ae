"""What infra/ and the workflows say: commands and flags that are there, clean shell, workflows and a cluster that fit schemas."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import typer
from infra_files import INFRA, ROOT, documents, join_lines, passes, tool

from sep_batch.jobs.cli.main import app

KINDS = {"", ".md", ".sbatch", ".service", ".timer", ".yaml", ".yml"}
SAYS = [path for path in sorted(INFRA.rglob("*")) if path.is_file() and path.suffix in KINDS]
SCRIPTS = [ROOT / ".ci" / "run", ROOT / ".ci" / "release-notes", INFRA / "slurm" / "sep-batch.sbatch"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CALL = re.compile(r"(?<![\w./=-])(?:\S*/bin/)?sep-batch (models )?([a-z]+)\b([^\n`;|&]*)")


def commands(path):
    """Return a file's text without its prose: of Markdown what is code, of others what is no comment, or is set off in one."""
    text = path.read_text()
    if path.suffix == ".md":
        return "\n".join(re.findall(r"^```sh\n(.+?)^```$", text, re.MULTILINE | re.DOTALL) + re.findall(r"`([^`\n]+)`", text))
    return re.sub(r"(^|(?<=\s))# \S.*", "", text, flags=re.MULTILINE)


def calls(path):
    """Return each command line of sep-batch in a file: command, and its flags."""
    text = re.sub(r"\n\s+(?=--)", " ", join_lines(commands(path)))  # as YAML folds it, too
    text = re.sub(r"(sep-batch submit\b.*?) -- ", r"\1\nsep-batch ", text)
    for is_of_models, command, rest in CALL.findall(text):
        yield f"{is_of_models}{command}", set(re.findall(r"(?<!\S)--[a-z][a-z-]+", rest))


def options():
    """Return every command's flags."""
    click = typer.main.get_command(app)
    found = click.commands | {f"models {name}": command for name, command in click.commands["models"].commands.items()}
    return {name: {flag for parameter in command.params for flag in parameter.opts} for name, command in found.items()}


@pytest.mark.parametrize("path", SAYS, ids=lambda path: str(path.relative_to(INFRA)))
def test_a_file_names_only_commands_and_flags_that_are_there(path):
    for command, flags in calls(path):
        assert command in options(), command
        assert flags - options()[command] == set(), command


def test_the_calls_are_found_where_they_are():
    found = {path.name for path in SAYS if list(calls(path))}
    assert {"Dockerfile", "cron-job.yaml", "job.yaml", "sep-batch-sync.service", "sep-batch.sbatch", "README.md"} <= found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_clean(path):
    passes(tool("shellcheck"), path)


@pytest.mark.parametrize("path", [*WORKFLOWS, *INFRA.rglob("github-actions/*.yml")], ids=lambda path: path.name)
def test_a_workflow_fits_its_schema_and_pins_its_actions(path):
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", path)
    text = path.read_text()
    assert "permissions:" in text.partition("jobs:")[0]
    for action in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"\./.+|[\w-]+/[\w-]+@v\d+", action), action


def test_the_workflow_tries_the_oldest_and_the_newest_python_that_is_supported():
    matrix = documents(WORKFLOWS[0].read_text())[0]["jobs"]["test"]["strategy"]["matrix"]["python"]
    oldest, above = re.findall(r"3\.(\d+)", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    assert matrix == [f"3.{oldest}", f"3.{int(above) - 1}"]


def test_ray_up_takes_the_cluster_file():
    schema = Path(find_spec("ray").origin).parent / "autoscaler" / "ray-schema.json"
    (cluster,) = documents((INFRA / "ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    assert cluster["head_node_type"] in cluster["available_node_types"]
    workers = [kind for name, kind in cluster["available_node_types"].items() if name != cluster["head_node_type"]]
    assert all(kind["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"} for kind in workers)
    assert sum(kind["max_workers"] for kind in workers) == cluster["max_workers"]


def test_the_nodes_of_ray_up_install_with_the_uv_of_the_constraints():
    (cluster,) = documents((INFRA / "ray-cluster.yaml").read_text())
    (uv,) = re.findall(r"^uv==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"/uv/{uv}/install.sh" in cluster["setup_commands"][0]
    for command in cluster["setup_commands"] + cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        passes(shutil.which("bash"), "-n", "-c", command)
