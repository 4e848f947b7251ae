"""The exit code is that of what was done, whatever becomes of the words; and what libraries write past Python is apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

NATIVE = """
import os, sys
from sep_batch.jobs.setup import streams
{moved}
with streams.native_dropped():
    os.write(2, b"Ray's\\n")
    print("ours", file=sys.stderr)
os.write(2, b"later\\n")
"""
SONG = "\u6b4c"  # which Latin-1 has not


def stderr_of(moved):
    told = subprocess.run([sys.executable, "-c", NATIVE.format(moved=moved)], capture_output=True, text=True, check=True)
    return told.stderr.splitlines()


def test_in_a_command_what_comes_past_python_is_dropped_and_our_own_lines_are_not():
    assert stderr_of("streams.protect()") == ["ours", "later"]


def test_in_somebody_elses_program_nothing_is_dropped():
    assert stderr_of("") == ["Ray's", "ours", "later"]
    assert stderr_of("import io; sys.stderr = io.StringIO()") == ["Ray's", "later"]


@pytest.fixture(scope="module")
def missing(tmp_path_factory):
    """Return commands by exit code: one that is done, one that finds a fault, one that names a path in a refusal."""
    folder = tmp_path_factory.mktemp(SONG)
    done = "models list"
    return {0: f"{sys.executable} -m sep_batch.jobs {done}", 5: f"{sys.executable} -m sep_batch.jobs status {folder}/none"}


@pytest.mark.parametrize(
    "redirected",
    [
        *("{} | true", "{} 2>&1 | true", "{} > /dev/full", "{} > /dev/full 2>&1", "{} 2> /dev/full"),
        *("{} >&-", "{} 2>&-", "{} >&- 2>&-", "{} <&- >&- 2>&-"),
    ],
)
@pytest.mark.parametrize("code", [0, 5])
def test_the_exit_code_is_that_of_what_was_done_whoever_reads_its_words(missing, redirected, code):
    command = f"set -o pipefail; {redirected.format(missing[code])}"
    ran = subprocess.run([shutil.which("bash"), "-c", command], capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran
    assert "Traceback" not in ran.stdout + ran.stderr


def test_output_that_was_lost_to_a_full_disk_is_told_of_once(missing):
    ran = subprocess.run(f"{missing[0]} > /dev/full", shell=True, capture_output=True, text=True, check=False)
    assert ran.stderr == "stdout: No space left on device: some of the output is lost\n"


def test_what_an_encoding_lacks_is_escaped(missing):
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    ran = subprocess.run(missing[5].split(), env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 5
    assert "\\u6b4c0/none" in ran.stderr
    assert "Traceback" not in ran.stderr


LAST = """
import os, signal, sys
from sep_batch.jobs.setup import streams
streams.protect()
try:
    with streams.last_words("gone"):
        {end}
except ValueError:
    pass
"""


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("os._exit(1)", "gone\n"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "gone\n"),
        ("os.close(sys.stderr.fileno()); os._exit(1)", "gone\n"),
        ("print('done', file=sys.stderr)", "done\n"),
        ("raise ValueError", ""),
        ("sys.exit(3)", ""),
    ],
)
def test_a_process_that_is_killed_has_last_words_and_one_that_ends_has_none(end, told):
    ran = subprocess.run([sys.executable, "-c", LAST.format(end=end)], capture_output=True, text=True, check=False)
    assert ran.stderr == told
