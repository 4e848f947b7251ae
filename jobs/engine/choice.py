"""The engine of a run: threads of this process for small work, Ray for the rest."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa

from sep_batch.jobs.engine import engine
from sep_batch.jobs.setup import machine, streams
from sep_batch.jobs.setup.options import Options
from sep_batch.jobs.setup.units import span
from sep_batch.pipeline import errors
from sep_batch.pipeline.flow.flow import Build
from sep_batch.pipeline.flow.resources import Resources, plan_resources
from sep_batch.pipeline.manifest.probe import LENGTHS, as_numbers, extra_numbers
from sep_batch.pipeline.stages.gpu_faults import Gpu
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements

LOCAL_S = 3600.0  # of audio; with more, what Ray adds is worth its start
MOST_WORKERS = 4
MOST_TRACKS = 100_000  # whose durations are added up
_KILLED = "error: this process was killed: by the kernel (out of memory), or by a signal; run the same command again to resume"
TRACK_S = 240.0  # assumed for a track of unknown duration


@dataclass(frozen=True)
class Choice:
    """The engine of a run, `local` or `ray`, and why."""

    name: Literal["local", "ray"]
    reason: str


def _hold_none(gpu: Gpu) -> None:
    """Refuse to go on without a GPU: a CUDA error of this process ends the run."""
    raise errors.NotRunnableError(f"{gpu} was given up, and this engine has no other")


@dataclass(frozen=True)
class Engine:
    """An engine that is ready.

    Attributes:
        resources: Workers of each stage.
        build: Builds a flow.
        logs: Folder of the engine's logs; None if it has none.
        hold: Keeps all further flows from a GPU that was given up; called while no flow runs.
    """

    resources: Resources
    build: Build
    logs: str | None = None
    hold: Callable[[Gpu], None] = _hold_none


def before_planning(options: Options) -> Choice | None:
    """Return the engine of a run, as far as its options and this machine decide it; None if the amount of work does."""
    if options.engine == "local":
        return Choice("local", "--engine local")
    if options.engine == "ray":
        return Choice("ray", "--engine ray")
    if address := machine.cluster(options):
        return Choice("ray", f"the cluster at {address}")
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return Choice("ray", "Ray runs in this process already")
    if (gpus := machine.gpu_count(options)) > 1:
        return Choice("ray", f"{gpus} GPUs")
    return None


def by_amount(options: Options, tracks: pa.Table) -> Choice:
    """Return the engine for this much work.

    Args:
        options: Options of the run.
        tracks: Tracks to do.
    """
    if tracks.num_rows > MOST_TRACKS:
        return Choice("ray", f"{tracks.num_rows:,} tracks")
    longest = as_numbers(tracks["duration_s"], math.inf if options.duration_s is None else options.duration_s)
    whole = np.maximum(extra_numbers(tracks, LENGTHS) - as_numbers(tracks["offset_s"], options.offset_s), 0.0)
    is_unknown = np.isnan(whole) & ~np.isfinite(as_numbers(tracks["duration_s"], math.inf))
    audio_s = float(np.fmin(np.where(is_unknown, TRACK_S, whole), longest).sum())
    amount = f"{'about ' if is_unknown.any() else ''}{span(audio_s)} of audio"
    if audio_s < LOCAL_S:
        return Choice("local", f"{amount}, Ray from {span(LOCAL_S)} on")
    return Choice("ray", f"{amount}, local below {span(LOCAL_S)}")


def look_ahead(choice: Choice | None, options: Options, say: Callable[[str], None] = lambda _: None) -> None:
    """Check before other work that Ray can start, or the cluster can be joined, where Ray is the engine.

    Raises:
        NotRunnableError: Ray cannot start, or the cluster cannot be joined.
        UsageError: The address cannot be that of a cluster's head.
    """
    if choice and choice.name == "ray":
        engine.look_ahead(options, say)


def prepare(choice: Choice | None, options: Options, tracks: pa.Table) -> None:
    """Load what the local engine needs on threads, while the run still reads OUT.

    Args:
        choice: The engine; None if the amount of work decides it.
        options: Options of the run.
        tracks: Tracks of the manifest, done or not.
    """
    if (choice or by_amount(options, tracks)).name == "local":
        from sep_batch.pipeline.flow import local_flow

        local_flow.prepare(on_cpu=not machine.gpu_count(options))


@contextlib.contextmanager
def running(
    choice: Choice,
    options: Options,
    requirements: MachineRequirements,
    tracks: int,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Engine]:
    """Start an engine, and end it after the block.

    Args:
        choice: The engine.
        options: Options of the run.
        requirements: Requirements for the nodes of a cluster.
        tracks: Number of tracks to do.
        say: Function that shows the current step.

    Raises:
        NotRunnableError: It cannot be started.
        UsageError: A local path is given for a cluster of several nodes.
    """
    if choice.name == "local":
        from sep_batch.pipeline.flow.local_flow import LocalFlow

        say("loading the model")
        with streams.last_words(_KILLED):
            yield Engine(_local_resources(options, tracks), LocalFlow)
        return
    engine.set_environment(options)
    say("starting Ray")
    with engine.running(options, requirements, say) as resources:
        from sep_batch.pipeline.flow import ray_data
        from sep_batch.pipeline.flow.held_gpus import HeldGpus
        from sep_batch.pipeline.flow.ray_flow import RayFlow

        held = HeldGpus()
        try:
            yield Engine(resources, RayFlow, ray_data.logs(), held.hold)
        finally:
            held.release()  # Ray may live on


def _local_resources(options: Options, tracks: int) -> Resources:
    """Return the workers of the local engine: at most `MOST_WORKERS` of Analyze and Write, since each may hold a part."""
    import torch

    gpus = machine.gpu_count(options)
    if options.gpus == "auto" and torch.cuda.is_available():  # NVIDIA's driver lists no GPU on the Windows Subsystem
        gpus = max(1, gpus)
    gpus = min(1, gpus)
    if gpus and not options.device:
        machine.refuse_missing_gpus(gpus)
    resources = plan_resources(options.cpus or machine.usable_cpus(), gpus, device=options.device)
    analyze, write = resources.analyze, resources.write
    return replace(
        resources,
        analyze=replace(analyze, actors=min(analyze.actors, MOST_WORKERS, tracks)),
        write=replace(write, actors=min(write.actors, MOST_WORKERS)),
    )
