"""Rows of part 3: whole runs by the command line, undisturbed and disturbed.

x real time is seconds of audio by seconds of the flow without the start of its workers. A disturbed run takes the first songs of
the same folder: its stems must have the checksums that the undisturbed run gave them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from checkout import HERE
from gpu_busy import GpuBusy, summary
from ledger import Row, Values
from material import SONGS, Setup

RUN_LIMIT_S = 150.0
DISTURBED, DISTURBED_SMALL = 24, 4  # songs
KEPT = ("exit_code", "ok", "failed", "audio_s", "seconds", "start_s", "job_s", "spilled_bytes", "busy", "bottleneck", "actors")
SEPARATE = "MapWorker(MapBatches(Separate"  # in the command line of Ray's worker
MODULE = (sys.executable, "-m", "sep_batch.jobs")


def rows() -> list[Row]:
    """Return the rows, in order."""
    return [
        Row("pipeline.songs", songs),
        Row("pipeline.run.stft_gpu", partial(undisturbed, stft="gpu")),
        Row("pipeline.run.stft_cpu", partial(undisturbed, stft="cpu")),
        Row("pipeline.killed_worker", killed_worker, "ray"),
        Row("pipeline.device_assert", device_assert, "ray"),
        Row("pipeline.run.tf32", partial(undisturbed, stft="gpu", precision="tf32"), "cuda"),
    ]


class Ran(NamedTuple):
    """One run: what its row says of it, the sha256 of each stem by its path in OUT, and its log."""

    values: Values
    stems: dict[str, str]
    log: str


def songs(setup: Setup) -> Values:
    """Prepare the songs and the model, and return their number."""
    begun = time.perf_counter()
    folder, _ = setup.songs, setup.model
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {"songs": setup.song_count(), "mb": size / 1e6, "prepared_s": time.perf_counter() - begun}


def command(setup: Setup, out: Path, *flags: str, program: Sequence[str] = MODULE) -> list[str]:
    """Return the command line of a run over the songs."""
    where = "auto" if setup.on_gpu else "0"
    given = [
        str(setup.songs),
        "--out",
        str(out),
        "--model",
        str(setup.model),
        "--gpus",
        where,
        "--engine",
        setup.engine,
        "--json",
    ]
    return [*program, "run", *given, *flags]


def run(
    setup: Setup,
    name: str,
    *flags: str,
    program: Sequence[str] = MODULE,
    environment: Mapping[str, str] | None = None,
    disturb: Callable[[subprocess.Popen[bytes], Path], None] | None = None,
) -> Ran:
    """Run the songs into a new OUT, which is removed afterwards.

    Args:
        setup: Device, model and songs.
        name: Name of the run.
        flags: Further flags of `run`.
        program: The command before `run`.
        environment: Variables beside those of this process.
        disturb: Function that is called with the process and OUT, in a thread beside it.
    """
    out, logs = setup.work / "out" / name, setup.work / "logs"
    shutil.rmtree(out, ignore_errors=True)
    logs.mkdir(parents=True, exist_ok=True)
    line = command(setup, out, *flags, program=program)
    with (logs / f"{name}.out").open("wb") as told, (logs / f"{name}.err").open("wb") as log, GpuBusy() as gpu:
        begun = time.monotonic()
        variables = {**os.environ, **(environment or {})}
        process = subprocess.Popen(line, stdout=told, stderr=log, env=variables, start_new_session=True)
        if disturb:
            threading.Thread(target=disturb, args=(process, out), daemon=True).start()
        try:
            process.wait(RUN_LIMIT_S)
        finally:
            end_group(process)
        wall_s = time.monotonic() - begun
    try:
        result = last_json((logs / f"{name}.out").read_text(), (logs / f"{name}.err").read_text())
        checksums = stems_of(out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    flow_s = result["seconds"] - result["start_s"]
    rate = {"x_real_time": result["audio_s"] / flow_s if flow_s > 0 else None, "wall_s": wall_s, "exit": process.returncode}
    kept = {key: result[key] for key in KEPT if key in result}
    return Ran({**rate, **kept, **summary(gpu.samples)}, checksums, (logs / f"{name}.err").read_text())


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a run that is over its time, with the processes of its group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_json(told: str, log: str) -> dict[str, Any]:
    """Return the summary, the last line of a run's output.

    Raises:
        RuntimeError: There is none; the message ends with the log's last line.
    """
    lines = [line for line in told.splitlines() if line.startswith("{")]
    result = json.loads(lines[-1]) if lines else {}
    if "start_s" not in result:
        raise RuntimeError(f"the run gave no summary: {(log.strip().splitlines() or ['no log'])[-1]}")
    return dict(result)


def stems_of(out: Path) -> dict[str, str]:
    """Return the sha256 of each stem in the index, by its path relative to OUT."""
    from sep_batch.pipeline.out import index

    rows = index.read(str(out)).to_pylist()
    return {stem["uri"]: stem["sha256"] for row in rows for stem in row["stems"] or []}


_UNDISTURBED: dict[str, dict[str, str]] = {}  # checksums by the stage that computes the STFT, in float32


def undisturbed(setup: Setup, stft: str, precision: str = "float32") -> Values:
    """Run all songs once; `ok`: exit code 0, and a stem of each."""
    name = f"stft_{stft}.{precision}"
    ran = run(setup, name, "--stft", stft, "--precision", precision, "--limit", str(SONGS))
    if precision == "float32":
        _UNDISTURBED[stft] = ran.stems
    done = ran.values["exit"] == 0 and ran.values["ok"] == setup.song_count()
    first, values = _UNDISTURBED.get("gpu", {}), {**renamed(ran.values), "ok": done}
    if stft == "cpu" and first:
        values["stems_of_other_bytes"] = sum(first.get(uri) != sha256 for uri, sha256 in ran.stems.items())
    return values


def renamed(values: Values) -> Values:
    """Name the number of tracks, so that `ok` is the row's own."""
    return {("tracks" if key == "ok" else key): value for key, value in values.items()}


def disturbed(setup: Setup, name: str, **options: Any) -> tuple[Ran, Values]:
    """Run the first songs in a way, and compare their stems with those of the undisturbed run."""
    if "gpu" not in _UNDISTURBED:
        undisturbed(setup, "gpu")
    count = min(setup.song_count(), DISTURBED_SMALL if setup.small else DISTURBED)
    ran = run(setup, name, "--stft", "gpu", "--limit", str(count), **options)
    expected = _UNDISTURBED["gpu"]
    different = sum(expected.get(uri) != sha256 for uri, sha256 in ran.stems.items())
    is_whole = ran.values["exit"] == 0 and ran.values["ok"] == count and not different
    return ran, {**renamed(ran.values), "stems": len(ran.stems), "stems_of_other_bytes": different, "ok": is_whole}


def killed_worker(setup: Setup) -> Values:
    """Kill the worker of Separate once (SIGKILL), when the first stem is stored; `ok`: exit code 0 and the same bytes."""
    hits: list[Values] = []
    _, values = disturbed(setup, "killed_worker", disturb=partial(kill_separate, hits=hits))
    return {**values, "kills": hits, "ok": values["ok"] and bool(hits)}


def kill_separate(process: subprocess.Popen[bytes], out: Path, hits: list[Values]) -> None:
    """Wait for the first stem, then kill the newest worker of Separate below a process."""
    while process.poll() is None:
        stored = sum(1 for path in out.rglob("*.flac") if "_sep" not in path.parts) if out.exists() else 0
        if stored and (workers := separate_workers(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[-1], signal.SIGKILL)
                hits.append({"pid": workers[-1], "stems_stored": stored})
            return
        time.sleep(0.05)


def separate_workers(pid: int) -> list[int]:
    """Return the processes below one that are workers of Separate."""
    workers = []
    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if SEPARATE in " ".join(one.cmdline()):
                    workers.append(one.pid)
    return workers


def device_assert(setup: Setup) -> Values:
    """Let a device-side assert happen once in the worker of Separate; `ok`: it did, exit code 0 and the same bytes."""
    once = setup.work / "asserted"
    once.unlink(missing_ok=True)
    program, variables = (sys.executable, str(HERE / "assert_once.py")), {"ACCEPT_ONCE": str(once)}
    ran, values = disturbed(setup, "device_assert", program=program, environment=variables)
    warned = [line for line in ran.log.splitlines() if "CUDA error" in line]
    return {**values, "happened": once.exists(), "warned": warned[:1], "ok": values["ok"] and once.exists()}
