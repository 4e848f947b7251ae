"""One song on a system that has nothing of Linux's own: its absence is faked, in the command and in the decoder's process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from catalogs import stems_below, write_tone

from sep_batch.pipeline.audio import codecs

WITHOUT_LINUX = """
import builtins, ctypes, io, os

for name in ("sched_getaffinity", "memfd_create", "pidfd_open"):
    if hasattr(os, name):
        delattr(os, name)
lookup = ctypes.CDLL.__getattr__


def without(self, name):
    if name in ("prctl", "syscall", "mallopt"):
        raise AttributeError(name)
    return lookup(self, name)


ctypes.CDLL.__getattr__ = without


def refusing(call):
    def refused(path, *arguments, **options):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(("/proc", "/sys", "/dev/shm")):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
        return call(path, *arguments, **options)

    return refused


for module, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "readlink"), (os, "stat"), (os, "listdir")):
    setattr(module, name, refusing(getattr(module, name)))
"""


def run(*arguments, **environment):
    command = [sys.executable, "-m", "sep_batch.jobs", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120)


def test_without_what_only_linux_has_one_song_gives_the_same_stems(tiny, tmp_path):
    (tmp_path / "portable").mkdir()
    (tmp_path / "portable" / "sitecustomize.py").write_text(WITHOUT_LINUX)
    song = write_tone(tmp_path / "song.mp3", seconds=3, codec=codecs.CODECS["mp3"][""])
    for out, environment in (("linux", {}), ("other", {"PYTHONPATH": str(tmp_path / "portable")})):
        told = run("run", song, "-o", tmp_path / out, "-p", tiny, **environment)
        assert told.returncode == 0, told.stderr
    stems = stems_below(tmp_path / "linux")
    assert len(stems) == 2
    assert stems_below(tmp_path / "other") == stems
    born = [json.loads(next((tmp_path / out).glob("_sep/lease/*.json")).read_text())["born"] for out in ("linux", "other")]
    assert [type(moment) for moment in born] == [int, str]  # the absence was seen
    told = run("verify", tmp_path / "other", "--deep", PYTHONPATH=str(tmp_path / "portable"))
    assert told.returncode == 0, told.stderr
