"""`run`: separate every track of a manifest that is not done yet. Starts Ray, has the driver run the flow, publishes the index.

from sep_batch.jobs.run import run_job
summary = run_job("songs.parquet", out="songs.stems")
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sep_batch.jobs.access import storage_options
from sep_batch.jobs.options import MaxFailures, Options, check
from sep_batch.jobs.progress import Progress
from sep_batch.jobs.stop import Stop, seconds_until
from sep_batch.jobs.summary import Summary
from sep_batch.model import weights
from sep_batch.pipeline import audio, failures, index, lease, manifest, names, storage, uris
from sep_batch.pipeline.settings import Settings

if TYPE_CHECKING:
    from sep_batch.pipeline.flow import Resources
    from sep_batch.pipeline.work import Work

OBJECT_STORE_BYTES = 800 << 20  # for each Separate actor: what it works on, what is ready for it, what it gave
PACKAGES = ("sep-batch", "torch", "torchaudio", "ray", "av", "pyarrow")


def run_job(source: str, out: str | None = None, *, progress: Progress | None = None, **options: Any) -> Summary:
    """Separate every track of a manifest that is not done yet.

    Args:
        source: A manifest, a folder, or an audio file; a path or URI.
        out: Where to; by default beside the source, `songs.parquet` -> `songs.stems`.
        progress: Told of what happens; by default nothing is shown.
        options: The fields of `Options`.

    Returns:
        What was done. Its exit code is as in the README's table.

    Raises:
        RunError: The run could not start, a systemic fault ended it, or a defect of ours did.
        KeyboardInterrupt: A signal came before the flow ran, or a second one while it ended.
    """
    wanted = Options(**options)
    check(wanted)
    stop = Stop(seconds_until(wanted.deadline, datetime.now().astimezone()) if wanted.deadline else None)
    told = progress or Progress()
    with stop.on_signals(), told.showing():
        summary = _run(source, out, wanted, stop, told)
    told.end(summary)
    return summary


def _run(source: str, out: str | None, wanted: Options, stop: Stop, progress: Progress) -> Summary:
    asked = None if wanted.gpus == "auto" else int(wanted.gpus)
    if asked and not wanted.device and not _cluster(wanted):
        _refuse_missing_gpus(asked)
    if not _cluster(wanted):
        _refuse_precision(wanted)
    access = storage_options(wanted.endpoint_url, wanted.storage_options)
    storage.use(access)
    listed = manifest.read(
        source,
        uri_column=wanted.uri_column,
        id_column=wanted.id_column,
        input_root=wanted.input_root,
        allow_http=wanted.allow_http,
    )
    tracks = listed.tracks.slice(0, wanted.limit)
    out = uris.absolute(out) if out else default_out(listed.uri)
    summary = Summary(out=out, tracks=tracks.num_rows, warnings=listed.warnings)
    if not tracks.num_rows:
        return summary
    progress.wait_for("reading the weights")
    model, settings = _settings(wanted)
    pairs = zip(tracks.column("id").to_pylist(), tracks.column("uri").to_pylist(), strict=True)
    names.refuse_collisions(settings.filename, pairs, settings.stems, settings.format)
    progress.wait_for("looking at what OUT holds")
    try:
        with lease.hold(out, wait_s=wanted.wait_s) as held:
            run = _open_out(out, settings, listed, overwrite=wanted.overwrite)
            plan = manifest.make_plan(tracks, index.finished(out), settings.sha256, wanted.retry)
            summary.done_before, summary.known_failed = plan.done, plan.known_failed
            with _published(out, run, held):
                if plan.tracks.num_rows:
                    summary.run = run
                    held.tell(run=run)
                    progress.plan(summary, plan.tracks)
                    work = _work(settings, summary, wanted, access)
                    _drive(plan.tracks, work, model, summary, wanted, progress, stop, held)
    except failures.TrackError as error:
        raise failures.NotRunnableError(f"OUT {error}") from error
    summary.judge(MaxFailures.parse(wanted.max_failures), ok_with_failures=wanted.ok_with_failures)
    return summary


def default_out(source: str) -> str:
    """Return where stems go by default: beside the source, `songs.parquet` -> `songs.stems`."""
    base = uris.name(source)
    return f"{uris.parent(source)}/{base.rpartition('.')[0] or base}.stems"


def _work(settings: Settings, summary: Summary, wanted: Options, access: storage.Options) -> Work:
    from sep_batch.pipeline.work import Work

    run = summary.run or ""
    parts = index.parts_folder(summary.out, run)
    scratch = parts if uris.is_local(parts) else wanted.scratch or tempfile.gettempdir()
    return Work(settings, summary.out, run, parts, scratch, limit_s=wanted.time_limit_s, storage=access)


def _drive(
    todo: pa.Table, work: Work, model: str, summary: Summary, wanted: Options, progress: Progress, stop: Stop, held: lease.Lease
) -> None:
    _prepare_ray(wanted)
    from sep_batch.jobs.breaker import Breaker
    from sep_batch.jobs.driver import Driver

    bound = MaxFailures.parse(wanted.max_failures)
    progress.wait_for("starting Ray")
    with (
        _ray(wanted) as resources,
        stop.on_signals(),  # again: Ray sets a signal handler of its own
        index.Journal(work.out, work.run, check=held.check, flush_s=wanted.flush_s) as journal,
        stop.draining(),
    ):
        Driver(work, model, resources, summary, bound, journal, progress, stop, Breaker(work.out)).run(todo)


def _settings(wanted: Options) -> tuple[str, Settings]:
    """Have the weights verified, and return where they lie with the settings of the run."""
    try:
        if not uris.is_local(wanted.model):
            folder = storage.bring(wanted.model, weights.cache_folder() / "brought")
        else:
            folder = weights.obtain(wanted.model, say=logging.getLogger("sep_batch").warning)
        spec, tensors = weights.load(folder, preset=wanted.model)
    except weights.UnknownModelError as error:
        raise failures.UsageError(f"--model: {error}") from error
    except (weights.WeightsError, failures.TrackError) as error:
        raise failures.NotRunnableError(f"weights: {error}") from error
    if unknown := set(wanted.stems or ()) - set(spec.stems):
        raise failures.UsageError(f"--stems {', '.join(sorted(unknown))}: {spec.name} has {', '.join(spec.stems)}")
    lossy = audio.is_lossy(wanted.format)
    settings = Settings.load(
        {
            "weights_sha256": weights.sha256_of(tensors),
            "spec": asdict(spec),
            "stems": [stem for stem in spec.stems if stem in (wanted.stems or spec.stems)],
            "format": wanted.format,
            "bit_depth": wanted.bit_depth,
            "bitrate": (wanted.bitrate or audio.DEFAULT_BITRATE) if lossy else None,
            "precision": wanted.precision,
            "filename": wanted.filename,
            "offset_s": wanted.offset_s,
            "duration_s": wanted.duration_s,
        }
    )
    return str(folder), settings


def _open_out(out: str, settings: Settings, listed: manifest.Manifest, *, overwrite: bool) -> str:
    """Check OUT's settings against ours, write its run.json, clear what dead runs left, and return the new run's name."""
    uri = f"{out}/_sep/run.json"
    if storage.exists(uri):
        try:
            before = json.loads(storage.read(uri))["settings"]
        except (ValueError, KeyError) as error:
            raise failures.NotRunnableError(f"{uri}: not what a run writes ({error}); remove it to start OUT anew") from error
        if (differing := settings.differing(before)) and not overwrite:
            raise failures.SettingsDifferError(
                f"OUT {out} holds stems made with other settings: {', '.join(differing)}; use another --out, or --overwrite"
            )
    run = index.new_run(out)
    described = {
        "run": run,
        "settings": settings.canonical(),
        "settings_sha256": settings.sha256,
        "manifest": {"uri": listed.uri, "sha256": listed.sha256},
        "versions": {package: version(package) for package in PACKAGES},
    }
    storage.remove(f"{out}/_sep/parts")
    storage.remove(f"{out}/_sep/plan")
    storage.put(uri, json.dumps(described, indent=2, sort_keys=True).encode(), scratch=index.parts_folder(out, run))
    return run


@contextlib.contextmanager
def _published(out: str, run: str, held: lease.Lease) -> Iterator[None]:
    """Publish the index at the end and remove what only the run needed; not where OUT was taken over, nor in a hurry."""
    is_hurried = False
    try:
        yield
    except KeyboardInterrupt:  # a second signal: the next run publishes
        is_hurried = True
        raise
    finally:
        if not is_hurried:
            held.check()
            index.publish(out, run)
            storage.remove(index.plan_folder(out, run))
            storage.remove(index.parts_folder(out, run))


def _refuse_missing_gpus(asked: int) -> None:
    """Refuse more GPUs than torch can use on this machine.

    Raises:
        NotRunnableError: Names what was found.
    """
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked > found:
        raise failures.NotRunnableError(
            f"--gpus {asked}: found {found} that torch {torch.__version__} can use (CUDA {torch.version.cuda}); "
            "ask for fewer, or --gpus 0 for the CPU"
        )


def _gpus_wanted(wanted: Options) -> int:
    """Return how many GPUs a run on this machine will take, without asking torch: auto is what the driver lists."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) if wanted.gpus == "auto" else int(wanted.gpus)


def _refuse_precision(wanted: Options) -> None:
    """Refuse a precision that the CPU does not have where the U-Nets will run on it.

    Raises:
        UsageError: Names the precision.
    """
    if wanted.precision == Options.precision or wanted.device:
        return
    import torch

    from sep_batch.model.separator import CPU_PRECISIONS

    on_cpu = str(wanted.gpus) == "0" or (wanted.gpus == "auto" and not torch.cuda.is_available())
    if on_cpu and wanted.precision not in CPU_PRECISIONS:
        expected = ", ".join(CPU_PRECISIONS)
        raise failures.UsageError(f"--precision {wanted.precision}: the U-Nets run on the CPU here, expected one of {expected}")


def _cluster(wanted: Options) -> str | None:
    """Return the address of the cluster to join, None for a Ray of our own."""
    return wanted.address or os.environ.get("RAY_ADDRESS")


def _prepare_ray(wanted: Options) -> None:
    """Set what Ray reads once, when it is first imported.

    No usage statistics, no noise, and for a Ray of our own a token, since its ports listen beyond this machine.
    """
    if "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's default is 15; who gives way to whom is said in flow.py
    if not _cluster(wanted):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextlib.contextmanager
def _ray(wanted: Options) -> Iterator[Resources]:
    """Start Ray on this machine, or join a cluster, and share its resources out; ended where it was started here."""
    address = _cluster(wanted)
    import ray

    from sep_batch.pipeline import flow

    started = not ray.is_initialized()
    if started:
        local: dict[str, Any] = {
            "num_cpus": wanted.cpus or len(os.sched_getaffinity(0)),
            "object_store_memory": OBJECT_STORE_BYTES * max(1, _gpus_wanted(wanted)),
        }
        quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
        try:
            ray.init(address=address, **({} if address else local), **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise failures.NotRunnableError(f"Ray{f' at {address}' if address else ''}: {str(error).splitlines()[0]}") from error
    try:
        there = ray.cluster_resources()
        cpus, on_hand = int(there.get("CPU", 0)), int(there.get("GPU", 0))
        gpus = on_hand if wanted.gpus == "auto" else int(wanted.gpus)
        if gpus > on_hand:
            raise failures.NotRunnableError(f"--gpus {gpus}: Ray found {on_hand}")
        if gpus and not wanted.device and not address:
            _refuse_missing_gpus(gpus)
        usable = min(cpus, wanted.cpus) if wanted.cpus else cpus
        resources = flow.plan_resources(max(1, usable), gpus, device=wanted.device)
        flow.configure(resources)
        yield resources
    finally:
        if started:
            ray.shutdown()
