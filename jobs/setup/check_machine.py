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
from sep_batch.jobs.setup.machine import gpu_count, usable_cpus
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.setup.units import data_size
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline.audio.codecs import is_lossy
from sep_batch.pipeline.flow.resources import Resources, plan_resources
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART
from sep_batch.pipeline.stages.context import stft_stage
from sep_batch.pipeline.stages.estimates import patch_bytes

OBJECT_STORE_BYTES = 800 << 20  # for each Separate actor, at least: its current input, its next input, and its output
SPECTRUM_BYTES = 168_000_000  # of the longest part
WAVE_BYTES = SPECTRUM_BYTES // 2  # as float32
FILLED = 0.75  # share of the object store that may be filled; at 0.8 Ray begins to spill
SHM = "/dev/shm"  # noqa: S108 (Ray's folder)
_SHM_SHARE, _MEMORY_SHARE = 0.9, 0.3  # that the object store may take
RUN_BYTES = 4_000_000_000  # largest memory of a run on two CPUs, all its processes together
OPEN_FILES = 8192  # smallest number that Ray recommends
RAISED_FILES = 65536  # number to which Ray raises the limit itself, if the system permits it
SLOW_BYTES = 10**10  # size above which Ray refuses an object store outside /dev/shm
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
SESSIONS = "Ray's files"
SOCKET_BYTES = 107  # longest path of a Unix socket
FULL = 0.95  # used share of a disk from which on Ray spills no objects to it
START_BYTES = 1_000_000  # size of Ray's files right after its start
DEFAULTS = Options()
_UNBOUNDED = 1 << 60  # version 1 of control groups writes "no limit" as the largest number of pages


def python() -> Check:
    """Return the version of Python, and the platform."""
    return Check("Python", f"{platform.python_version()}, {platform.system()}, {platform.machine()}")


def cpus() -> Check:
    """Check the number of CPUs, and the container's limit on their use."""
    usable, quota = usable_cpus(), _quota()
    description = f"{usable} of {os.cpu_count()}" if usable != os.cpu_count() else f"{usable}"
    if quota is None or quota >= usable:
        return Check("CPUs", description)
    advice = f"run with --cpus {max(1, math.floor(quota))}, or raise the container's CPU limit"
    return note("CPUs", f"{description}, of which this container may use {quota:g}", advice)


def memory_bytes() -> int:
    """Return the memory of the machine, or the container's limit."""
    return min(_installed_bytes(), _memory_bound() or _installed_bytes())


def _installed_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory() -> Check:
    """Check the memory of the machine, or the container's limit, and how much of it is free."""
    total, bound = _installed_bytes(), memory_bytes()
    free = _free_bytes()
    description = f"{data_size(bound)}{', the limit of this container' if bound < total else ''}, {data_size(free)} free"
    if bound < RUN_BYTES:
        return wrong("memory", description, f"a run takes about {data_size(RUN_BYTES)}: use a larger machine or container")
    if free < RUN_BYTES:
        return note("memory", description, f"a run takes about {data_size(RUN_BYTES)}: end other programs")
    return Check("memory", description)


def object_store_bytes(options: Options) -> int:
    """Return the size of the object store of a Ray that starts on this machine: room for the parts on their way.

    The size is at most `_SHM_SHARE` of /dev/shm and `_MEMORY_SHARE` of the free memory, but at least `OBJECT_STORE_BYTES` a GPU.
    """
    resources = plan_resources(options.cpus or usable_cpus(), gpu_count(options), memory_bytes=memory_bytes())
    room_bytes = min(_shm_bytes(), int(_MEMORY_SHARE * _free_bytes()))
    gpus = resources.separate.gpus * resources.separate.actors
    return max(OBJECT_STORE_BYTES * max(1, gpus), min(way_bytes(options, resources), room_bytes))


def way_bytes(options: Options, resources: Resources) -> int:
    """Return the size of an object store that has room for all parts on their way.

    With less room Ray spills them to its disk.
    """
    parts, with_stems = resources.on_their_way()
    stage = stft_stage(options.stft, on_gpu=bool(resources.separate.gpus), needs_wave=options.needs_wave)
    part_bytes = WAVE_BYTES if stage == "gpu" else SPECTRUM_BYTES
    return int((parts * part_bytes + with_stems * _stems_bytes(options)) / FILLED)


def _stems_bytes(options: Options) -> int:
    """Return the size of the longest part's stems or estimates; of a model that is no preset, as many as any preset has."""
    largest = max(PRESETS.values(), key=lambda spec: (len(spec.stems), spec.bins))
    spec = PRESETS.get(options.model, largest)
    if options.mwf:
        return PATCHES_PER_PART * patch_bytes(spec)
    count = len(options.stems or spec.stems)
    count += (options.residual is not None) + options.write_mix
    is_short = options.bit_depth == "16" and not is_lossy(options.format)
    return count * WAVE_BYTES // (2 if is_short else 1)


def _shm_bytes() -> int:
    """Return the size of what the object store may take of /dev/shm; 0 if there is none."""
    if not os.path.isdir(SHM):
        return 0
    disk = os.statvfs(SHM)
    return int(_SHM_SHARE * disk.f_bavail * disk.f_frsize)


def _free_bytes() -> int:
    return min(memory_bytes(), _available() or memory_bytes())


def shm(options: Options = DEFAULTS) -> Check:
    """Check that Ray's object store has room in shared memory.

    Args:
        options: Options of the run; the number of GPUs sets the size of the object store.
    """
    store, total, free = object_store_bytes(options), 0, 0
    if os.path.isdir(SHM):
        disk = os.statvfs(SHM)
        total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    room = f"{data_size(free)} of {data_size(total)} free, Ray's object store takes {data_size(store)}"
    if free >= store:
        return Check(SHM, room)
    size = math.ceil(1.2 * store / 1e9)
    larger = f"docker run --shm-size {size}g; in Kubernetes an emptyDir of medium Memory on {SHM}"
    advice = f"delete files in it (ls -lS {SHM} lists the largest first)" if total >= store else larger
    if store > SLOW_BYTES and not os.environ.get("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"):
        return wrong(SHM, f"{room}: Ray will not start", advice)
    return note(SHM, f"{room}: it uses the disk of {ray_folder()}, which is slow", advice)


def sessions() -> Check:
    """Check that Ray can write its session's files: sockets, whose paths must be short, logs, and spilled objects."""
    folder = ray_folder()
    if fault := _too_long(folder):
        return fault
    existing = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        problem = f"{folder} cannot be written to: {existing} is not a writable folder"
        return wrong(SESSIONS, problem, "set RAY_TMPDIR to a writable folder")
    disk = shutil.disk_usage(existing)
    room = f"{folder}, {data_size(disk.free)} of {data_size(disk.total)} free"
    advice = f"free disk space, or set RAY_TMPDIR to a folder on another disk, with a name of at most {_most_bytes()} bytes"
    if disk.free < START_BYTES:
        return wrong(SESSIONS, f"{room}: Ray will not start", advice)
    if disk.free < (1 - FULL) * disk.total:
        return note(SESSIONS, f"{room}: over {FULL:.0%} full, where Ray spills no objects and a run may fail", advice)
    return Check(SESSIONS, room)


def _too_long(folder: str) -> Check | None:
    """Return a fault if the folder's name makes the paths of Ray's sockets too long."""
    most, length = _most_bytes(), len(os.fsencode(os.path.dirname(folder)))
    if length <= most:
        return None
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "RAY_TMPDIR")
    problem = (
        f"{variable} is {os.path.dirname(folder)}, {length} bytes: with more than {most} the paths of Ray's sockets are too long"
    )
    return wrong(SESSIONS, problem, "set RAY_TMPDIR to a shorter folder, as RAY_TMPDIR=/tmp")


def _most_bytes() -> int:
    """Return the largest length of the name in RAY_TMPDIR, in bytes."""
    return SOCKET_BYTES - len(f"/ray/session_2026-11-30_06-38-41_123456_{os.getpid()}/sockets/plasma_store")


def open_files() -> Check:
    """Check how many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(soft, min(hard, RAISED_FILES)) if hard != resource.RLIM_INFINITY else max(soft, RAISED_FILES)
    if soft == resource.RLIM_INFINITY or most >= OPEN_FILES:
        return Check("open files", "no limit" if soft == resource.RLIM_INFINITY else f"{most:,}, as Ray raises the limit")
    advice = f"ulimit -Hn {RAISED_FILES} as root, docker run --ulimit nofile={RAISED_FILES}, or limits.conf"
    return note("open files", f"at most {most:,}, Ray recommends {OPEN_FILES:,}", advice)


def _quota() -> float | None:
    """Return how many CPUs the control group may use; None without a limit."""
    bounds = []
    for folder in _folders("cpu"):
        if (words := _words(folder / "cpu.max")) and words[0] != "max":
            bounds.append(int(words[0]) / int(words[1]))
        quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) > 0:
            bounds.append(int(quota[0]) / int(period[0]))
    return min(bounds, default=None)


def _memory_bound() -> int | None:
    """Return how many bytes the control group may use; None without a limit."""
    files = (_words(folder / name) for folder in _folders("memory") for name in ("memory.max", "memory.limit_in_bytes"))
    return min((int(words[0]) for words in files if words and words[0] != "max" and int(words[0]) < _UNBOUNDED), default=None)


def _folders(controller: str) -> list[Path]:
    """Return the folders that may hold a controller's limits: this process's control group and its parents."""
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
    words = iter(_words(Path("/proc/meminfo")))
    return next((int(next(words)) * 1024 for word in words if word == "MemAvailable:"), None)
