"""`make` installs with uv and the torch that fits the machine, and without PyTorch's index with pip; Python and uv are faked."""

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


@pytest.mark.parametrize("code", [0, 2])
def test_make_takes_the_torch_of_the_machine_or_says_that_it_takes_the_package_indexs(tmp_path, code):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    command = ["make", ".venv/.installed", "PYTHON=./python"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    result = subprocess.run(
        command, cwd=tmp_path, env=environment | {"FAKE_UV": str(code)}, capture_output=True, text=True, check=True, timeout=60
    )
    calls = [line for line in (tmp_path / "log").read_text().splitlines() if "install" in line]
    assert calls[:2] == [
        "python -m pip install --quiet --constraint constraints.txt uv",
        "uv pip install --python .venv --torch-backend auto --constraint constraints.txt --editable .",
    ]
    assert calls[2:] == (["python -m pip install --constraint constraints.txt --editable ."] if code else [])
    assert ("installing the package index's, which has CUDA's libraries (5 GB)" in result.stderr) == bool(code)
