"""What the tests of infra/ look at its files with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from project_files import ROOT

INFRA = ROOT / "infra"


def tool(name):
    """Return the path of a program, of the test extra's or the system's; the test is skipped where there is none."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if not found:
        pytest.skip(f"there is no {name} here")
    return found


def passes(*command, **options):
    """Run a program and return what it printed; the test fails with it where it ends with another code than 0."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(text):
    """Return the YAML documents of a text."""
    return list(yaml.safe_load_all(text))


def join_lines(text):
    """Return a text with its continued lines (backslash at the end) in one line each."""
    return re.sub(r"\\\n\s*", " ", text)
