"""What libraries write past Python is dropped where it would tear a display, and only there."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, sys
from sep_batch.jobs import quiet
{moved}
with quiet.natively():
    os.write(2, b"Ray's\\n")
    print("ours", file=sys.stderr)
os.write(2, b"later\\n")
"""


def stderr_of(moved):
    told = subprocess.run([sys.executable, "-c", SCRIPT.format(moved=moved)], capture_output=True, text=True, check=True)
    return told.stderr.splitlines()


def test_in_a_command_what_comes_past_python_is_dropped_and_our_own_lines_are_not():
    assert stderr_of("quiet.move_stderr()") == ["ours", "later"]


def test_in_somebody_elses_program_nothing_is_dropped():
    assert stderr_of("") == ["Ray's", "ours", "later"]
    assert stderr_of("import io; sys.stderr = io.StringIO()") == ["Ray's", "later"]
