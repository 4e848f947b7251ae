"""The flow with its packages as new as the index has them, whatever pyproject.toml and constraints.txt pin."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import sysconfig
import tomllib

import pytest
from catalogs import write_tone
from project_files import ROOT

LARGE = {"torch", "torchaudio"}  # gigabytes; the flow uses no private name of theirs
RUN = """
import json, sys
from importlib.metadata import version
from sep_batch.jobs.run import run_job
summary = run_job("songs", "out", model=sys.argv[1], gpus=0)
print(json.dumps({"ok": summary.ok, "ray": version("ray"), "file": __import__("ray").__file__}))
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_works_with_the_newest_packages_of_the_index(tiny, tmp_path):
    write_tone(tmp_path / "songs" / "a.wav")
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    paths = {"base": environment, "platbase": environment}
    installed = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"  # comes after the environment's own
    with open(f"{sysconfig.get_path('purelib', vars=paths)}/installed.pth", "w") as file:
        file.write(installed)
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    packages = {re.match(r"[\w.-]+(\[\w+\])?", text)[0] for text in named} - LARGE
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--upgrade", *sorted(packages)]
    told = subprocess.run(pip, capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip(f"no newer packages can be installed: {told.stderr.strip().splitlines()[-1]}")
    told = subprocess.run([python, "-c", RUN, tiny], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert told.returncode == 0, told.stderr[-3000:]
    result = json.loads(told.stdout.splitlines()[-1])
    assert result["ok"] == 1, result
