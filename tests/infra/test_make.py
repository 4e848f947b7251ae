"""The targets of `make`: their calls of Python and uv, both faked."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from project_files import ROOT

# A Python whose venv holds itself, and whose pip installs a uv that ends with FAKE_UV; all write down how they were called.
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >> log
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *" uv") printf '#!/bin/sh\\necho "uv $*" >> log\\nexit $FAKE_UV\\n' > .venv/bin/uv && chmod +x .venv/bin/uv ;;
esac
"""


def make(target, folder, **environment):
    """Run make in a folder with the fake Python; return the calls, and what make printed on stderr."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    environment |= {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    command = ["make", target, "PYTHON=./python"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return (folder / "log").read_text().splitlines(), done.stderr


@pytest.mark.parametrize("code", [0, 2])
def test_make_takes_the_torch_of_the_machine_or_says_that_it_takes_the_package_indexs(tmp_path, code):
    calls, stderr = make(".venv/.installed", tmp_path, FAKE_UV=str(code))
    calls = [line for line in calls if "install" in line]
    assert calls[:2] == [
        "python -m pip install --quiet --constraint constraints.txt uv",
        "uv pip install --python .venv --torch-backend auto --constraint constraints.txt --editable .",
    ]
    assert calls[2:] == (["python -m pip install --constraint constraints.txt --editable ."] if code else [])
    assert ("installing the package index's, which has CUDA's libraries (5 GB)" in stderr) == bool(code)


def test_make_pictures_installs_their_extra_and_draws_each_picture(tmp_path):
    calls, _ = make("pictures", tmp_path, FAKE_UV="0")
    scripts = sorted(path.name for path in (ROOT / "docs" / "pictures").glob("*.py") if "def main()" in path.read_text())
    assert calls[-1 - len(scripts)] == "python -m pip install --quiet --constraint constraints.txt --editable .[pictures]"
    assert sorted(calls[-len(scripts) :]) == [f"python docs/pictures/{name}" for name in scripts]


def test_make_docs_installs_the_extra_docs_and_builds_the_site(tmp_path):
    calls, _ = make("docs", tmp_path, FAKE_UV="0")
    assert calls[-2] == "python -m pip install --quiet --constraint constraints.txt --editable .[docs]"
    assert calls[-1].startswith("python -m sphinx ")
    assert calls[-1].endswith(" docs build/docs")
