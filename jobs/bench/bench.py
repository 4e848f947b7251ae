"""`bench`: measure the speed of each step on one thread and one device, and of a whole run; name its bottleneck.

from sep_batch.jobs.bench import run_bench
measured = run_bench(seconds=240, gpus=0)
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console

from sep_batch.jobs.bench.catalog import write_catalog
from sep_batch.jobs.bench.report import Measured
from sep_batch.jobs.bench.steps import EXCERPT_S, REPEATS, measure, steps
from sep_batch.jobs.engine import choice
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup import options
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.context import stft_stage
from sep_batch.pipeline.storage import uris


def run_bench(
    seconds: float,
    out: str | None = None,
    *,
    model: str = options.DEFAULT_MODEL,
    gpus: str | int = "auto",
    cpus: int | None = None,
    engine: str = "auto",
    format: str = "flac",
    precision: str = options.Options.precision,
    stft: str = options.Options.stft,
) -> Measured:
    """Run the whole pipeline over a synthesised catalog, then measure its steps one by one.

    Args:
        seconds: Seconds of audio in the catalog.
        out: Folder or prefix in which a folder for catalog and stems is created, and removed again; by default a temporary one.
        model: Name or folder of the model.
        gpus: Number of GPUs, or "auto".
        cpus: Number of CPUs; None is all.
        engine: Engine of the run: auto, local or ray.
        format: File format of the stems.
        precision: Compute precision of the U-Nets.
        stft: Stage that computes the STFT: "cpu" is Analyze, "gpu" is Separate; "auto" is Separate if that runs on a GPU.

    Raises:
        RunError: An argument is invalid, or the run failed.
    """
    if not 1 <= seconds < float("inf"):
        raise errors.UsageError(f"--seconds {seconds:g}: expected 1 or more")
    run_options = options.Options(model=model, gpus=gpus, cpus=cpus, engine=engine, format=format, precision=precision, stft=stft)
    options.check(run_options)
    choice.look_ahead(choice.before_planning(run_options), run_options)
    console = Console(stderr=True, highlight=False)
    with _folder(out) as folder:
        tracks = write_catalog(folder, seconds)
        console.print(f"{tracks} tracks, {seconds:g} s together, synthesised; separating with {model}", soft_wrap=True)
        chosen = {field.name: getattr(run_options, field.name) for field in dataclasses.fields(run_options)}
        summary = run_job(f"{folder}/catalog", f"{folder}/stems", progress=Progress.on(console), **chosen)
        _refuse_failed(summary)
        console.print(f"measuring each step {REPEATS} times", soft_wrap=True)
        settings = Settings.load(json.loads(storage.read(f"{summary.out}/{layout.RUN_JSON}"))["settings"])
        device = "cuda" if summary.device == "cuda" and torch.cuda.is_available() else "cpu"  # the run may have used a cluster's
        stage = stft_stage(stft, on_gpu=device != "cpu")
        rates = measure(list(steps(settings, model, device, folder, min(seconds, EXCERPT_S), stft=stage)))
    return Measured(device, rates, summary)


@contextmanager
def _folder(out: str | None) -> Iterator[str]:
    """Yield a new folder, and remove it at the end with its content."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="sep-batch-bench-") as folder:
            yield folder
        return
    try:
        folder = f"{uris.target(out)}/bench-{secrets.token_hex(4)}"
        try:
            yield folder
        finally:
            storage.remove(folder)
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"--out {error}") from error


def _refuse_failed(summary: Summary) -> None:
    """Raise an error with the exit code of a run that failed: its speed means nothing."""
    if summary.exit_code:
        counts = ", ".join(f"{count} {name}" for name, count in summary.failed.most_common())
        error = errors.RunError(f"the run failed, so nothing was measured: {summary.stopped or counts}")
        error.exit_code = summary.exit_code
        raise error
