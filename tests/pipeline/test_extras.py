"""What is said of a missing extra is a command that installs it into this Python, from a checkout and from a wheel."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from project_files import ROOT

from sep_batch.pipeline import extras

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]


@pytest.mark.parametrize("extra", ["export", "gcs", "azure", "cluster"])
def test_an_extra_is_named_with_its_packages_and_their_versions_for_this_python(extra):
    words, _, command = extras.to_install(extra).partition(": ")
    assert words == f"install the extra {extra}"
    assert shlex.split(command)[:4] == [sys.executable, "-m", "pip", "install"]
    assert shlex.split(command)[-len(EXTRAS[extra]) :] == sorted(EXTRAS[extra])


def test_the_command_takes_the_constraints_of_a_checkout_and_pip_runs_it(tmp_path):
    command = shlex.split(extras.to_install("export").partition(": ")[2])
    at = command.index("--constraint")
    assert Path(command[at + 1]).samefile(ROOT / "constraints.txt")
    told = subprocess.run([*command, "--dry-run", "--no-deps"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_without_pip_it_is_uvs_command(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    assert f"uv pip install --python {sys.executable}" in extras.to_install("gcs")
