"""Checks of this machine: Python, CPUs, memory, /dev/shm, open files; in a container, its limits."""

from __future__ import annotations

import math
import os
import platform
import resource
import shutil
from pathlib import Path

from sep_batch.jobs.setup.address import ray_folder
from sep_batch.jobs.setup.check import Check, note, wrong
from sep_batch.jobs.setup.machine import object_store_bytes
from sep_batch.jobs.setup.options import Options

RUN_BYTES = 4_000_000_000  # of memory that a run took at most on two CPUs, all its processes together
OPEN_FILES = 8192  # that Ray recommends at least
RAISED_FILES = 65536  # to which Ray raises the limit itself, where it may
SLOW_BYTES = 10**10  # above it Ray refuses to have its object store elsewhere than in /dev/shm
SHM = "/dev/shm"  # noqa: S108 (Ray's, not a file of ours)
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
SESSIONS = "Ray's files"
SOCKET_BYTES = 107  # of the path of a Unix socket
FULL = 0.95  # of a disk, from which on Ray spills no objects to it
START_BYTES = 1_000_000  # that the files of a Ray that has just been started take
DEFAULTS = Options()
_UNBOUNDED = 1 << 60  # version 1 says no bound as the largest number of pages


def python() -> Check:
    """Tell which Python this is."""
    return Check("Python", f"{platform.python_version()}, {platform.system()}, {platform.machine()}")


def cpus() -> Check:
    """Tell how many CPUs there are, and how many of them may be used."""
    seen, quota = len(os.sched_getaffinity(0)), _quota()
    description = f"{seen} of {os.cpu_count()}" if seen != os.cpu_count() else f"{seen}"
    if quota is None or quota >= seen:
        return Check("CPUs", description)
    bound = max(1, math.floor(quota))
    return note("CPUs", f"{description}, of which this container may use {quota:g}", f"run with --cpus {bound}, or give it more")


def memory() -> Check:
    """Tell how much memory there is, the container's bound counted, and how much of it is free."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    bound = min(total, _memory_bound() or total)
    free = min(bound, _available() or total)
    description = f"{_gb(bound)}{', the bound of this container' if bound < total else ''}, {_gb(free)} free"
    if bound < RUN_BYTES:
        return wrong("memory", description, f"a run takes some {_gb(RUN_BYTES)}: give it more")
    if free < RUN_BYTES:
        return note("memory", description, f"a run takes some {_gb(RUN_BYTES)}: end what takes the rest")
    return Check("memory", description)


def shm(options: Options = DEFAULTS) -> Check:
    """Check that Ray's object store has room in shared memory.

    Args:
        options: Options of the run, whose GPUs say how large the object store is.
    """
    store, total, free = object_store_bytes(options), 0, 0
    if os.path.isdir(SHM):
        disk = os.statvfs(SHM)
        total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    room = f"{_gb(free)} of {_gb(total)} free, Ray's object store takes {_gb(store)}"
    if free >= store:
        return Check(SHM, room)
    size = math.ceil(1.2 * store / 1e9)
    larger = f"docker run --shm-size {size}g; in Kubernetes an emptyDir of medium Memory on {SHM}"
    advice = f"delete what fills it (ls -lS {SHM})" if total >= store else larger
    if store > SLOW_BYTES and not os.environ.get("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"):
        return wrong(SHM, f"{room}: Ray will not start", advice)
    return note(SHM, f"{room}: it goes to the disk of {ray_folder()}, which is slow", advice)


def sessions() -> Check:
    """Check that Ray can write its sessions: sockets with paths that are short enough, logs, and objects that are spilled."""
    folder = ray_folder()
    if fault := _too_long(folder):
        return fault
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return wrong(SESSIONS, f"{folder} cannot be written to: {there} is not ours", "set RAY_TMPDIR to a folder that can be")
    disk = shutil.disk_usage(there)
    room = f"{folder}, {_gb(disk.free)} of {_gb(disk.total)} free"
    advice = f"free some, or set RAY_TMPDIR to a folder on another disk, of at most {_most_bytes()} bytes"
    if disk.free < START_BYTES:
        return wrong(SESSIONS, f"{room}: Ray will not start", advice)
    if disk.free < (1 - FULL) * disk.total:
        return note(SESSIONS, f"{room}: over {FULL:.0%} full, where Ray spills no objects and a run may fail", advice)
    return Check(SESSIONS, room)


def _too_long(folder: str) -> Check | None:
    """Return what is wrong with a folder whose name makes the paths of Ray's sockets too long."""
    most, length = _most_bytes(), len(os.fsencode(os.path.dirname(folder)))
    if length <= most:
        return None
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "RAY_TMPDIR")
    problem = (
        f"{variable} is {os.path.dirname(folder)}, {length} bytes: with more than {most} the paths of Ray's sockets are too long"
    )
    return wrong(SESSIONS, problem, "set RAY_TMPDIR to a shorter folder, as RAY_TMPDIR=/tmp")


def _most_bytes() -> int:
    """Return how long the name of RAY_TMPDIR may be."""
    return SOCKET_BYTES - len(f"/ray/session_2026-11-30_06-38-41_123456_{os.getpid()}/sockets/plasma_store")


def open_files() -> Check:
    """Tell how many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(soft, min(hard, RAISED_FILES)) if hard != resource.RLIM_INFINITY else max(soft, RAISED_FILES)
    if soft == resource.RLIM_INFINITY or most >= OPEN_FILES:
        return Check("open files", "no limit" if soft == resource.RLIM_INFINITY else f"{most:,}, as Ray raises the limit")
    advice = f"ulimit -Hn {RAISED_FILES} as root, docker run --ulimit nofile={RAISED_FILES}, or limits.conf"
    return note("open files", f"at most {most:,}, Ray wants {OPEN_FILES:,}", advice)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def _quota() -> float | None:
    """Return how many CPUs the control group may use; None where it is not bound."""
    bounds = []
    for folder in _folders("cpu"):
        if (words := _words(folder / "cpu.max")) and words[0] != "max":
            bounds.append(int(words[0]) / int(words[1]))
        quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) > 0:
            bounds.append(int(quota[0]) / int(period[0]))
    return min(bounds, default=None)


def _memory_bound() -> int | None:
    """Return how many bytes the control group may use; None where it is not bound."""
    files = (_words(folder / name) for folder in _folders("memory") for name in ("memory.max", "memory.limit_in_bytes"))
    return min((int(words[0]) for words in files if words and words[0] != "max" and int(words[0]) < _UNBOUNDED), default=None)


def _folders(controller: str) -> list[Path]:
    """Return where bounds of a controller's may stand: this process's own control group and those around it."""
    folders = []
    for line in OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", controller) or controller in controllers.split(","):
            root = CGROUPS / controllers if controllers else CGROUPS
            own = root / path.lstrip("/")
            folders += [own, *(folder for folder in own.parents if folder == root or root in folder.parents)]
    return folders


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _available() -> int | None:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"), None)
