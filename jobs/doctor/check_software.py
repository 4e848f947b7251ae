"""Checks of `doctor`: codecs, weights and Ray. Each is run, not only searched for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np

from sep_batch.jobs.engine.engine import try_ray
from sep_batch.jobs.setup import address as clusters
from sep_batch.jobs.setup.check import Check, note, wrong
from sep_batch.jobs.setup.options import DEFAULT_MODEL
from sep_batch.model import weights
from sep_batch.model.published import WeightsError
from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.audio.codecs import CODECS, Codec
from sep_batch.pipeline.audio.encoding import encode

LEVEL = 0.1  # largest relative change of a tone's level by a lossy codec
_READ = {  # codecs of sources that stems are not written with, with the sample rate for the test
    "alac": (Codec("mp4", "alac", "s16p"), 44_100),
}


def ray_start(address: str | None = None) -> Check:
    """Start Ray as a run does, or join a cluster.

    Args:
        address: Address of the cluster, as --address takes it. Default: RAY_ADDRESS.
    """
    ray = version("ray")
    try:
        return Check("Ray", f"{ray}, {try_ray(address)}")
    except clusters.NoCluster as error:
        return wrong("Ray", f"{ray}, {error.problem}", error.advice)
    except errors.UsageError as error:
        return wrong("Ray", f"{ray}, {error}", "correct RAY_ADDRESS, or unset it to run on this machine alone")
    except errors.RunError as error:
        return wrong("Ray", f"{ray} does not start: {error}", f"see its logs in {clusters.ray_folder()}/session_latest/logs")


def last_cluster(address: str | None = None) -> Iterator[Check]:
    """Check the cluster in Ray's file of the last cluster, unless runs join another; a stale file misleads `auto`.

    Args:
        address: Address of the cluster, as --address takes it.
    """
    if (last := clusters.last_cluster()) is None or clusters.address_of(address):
        return
    try:
        clusters.reach(last)
        yield note(
            "Ray's file", f"a cluster is at {last}", "runs on this machine start their own Ray; --address auto joins that cluster"
        )
    except clusters.NoCluster as error:
        yield note("Ray's file", error.problem, f"only --address auto and Ray's own tools read it: delete {last.source}")


def decoder() -> Check:
    """Start the decoder's process, and report the limits of its sandbox on this kernel."""
    unfiltered = audio.start()
    if unfiltered:
        return note("decoder", f"a process of its own, with limits, {unfiltered}", "decode only files from trusted sources")
    return Check("decoder", "a process of its own: no network, no files, no processes, 3 GiB of memory at most")


def codecs() -> Check:
    """Encode and decode a second of every format."""
    faults = [f"{name}: {why}" for name, why in ((name, _codec_fault(*each)) for name, each in _formats()) if why]
    names = [name for name, _ in _formats()]
    if faults:
        return wrong(
            "codecs",
            "; ".join(faults),
            "reinstall their libraries: pip install --force-reinstall av soundfile",
        )
    return Check("codecs", f"a second of each was written and read: {', '.join(names)}")


def _formats() -> Iterator[tuple[str, tuple[Codec, int]]]:
    for format, depths in CODECS.items():
        yield from ((f"{format} {depth}".strip(), (codec, codec.rate_for(44_100))) for depth, codec in depths.items())
    yield from _READ.items()


def _codec_fault(codec: Codec, rate_hz: int) -> str | None:
    """Encode and decode one second; return a description of the fault, None without one."""
    tone = 0.5 * np.sin(2 * np.pi * 440 / rate_hz * np.arange(rate_hz, dtype=np.float32))
    wave = np.stack([tone, -tone])
    try:
        written = encode(wave, codec, rate_hz=rate_hz, bitrate=128_000 if codec.samples.startswith("flt") else None)
        pieces, _ = audio.decode(io.BytesIO(written), rate_hz=rate_hz)
        level = float(np.std(np.concatenate(list(pieces), axis=1)) / np.std(wave))
    except Exception as error:  # noqa: BLE001 (any exception of the libraries is the fault)
        return errors.first_line(error)
    return None if abs(level - 1) < LEVEL else f"read at {level:.2f} of the level that was written"


def cache() -> Check:
    """Check that models and forecasts can be stored in the user's cache folder."""
    try:
        return Check("cache", f"{weights.writable_cache()}: can be written to")
    except WeightsError as error:
        problem, _, advice = str(error).rpartition("; ")
        if weights.is_cached(DEFAULT_MODEL):
            return note("cache", f"{problem}; {DEFAULT_MODEL} is there", f"for other models and forecasts, {advice}")
        return wrong("cache", f"{problem}, and no published model can be fetched", advice)


def default_weights() -> Check:
    """Check that the default model's weights are in the cache and have the published checksum."""
    folder = weights.cached(DEFAULT_MODEL)
    fetch = f"sep-batch models fetch {DEFAULT_MODEL}"
    if not weights.is_cached(DEFAULT_MODEL):
        return note(
            "weights", f"{DEFAULT_MODEL} is not in {folder}", f"a run fetches it; to fetch it now: {fetch}, offline with --from"
        )
    try:
        tensors = weights.load(folder).tensors
    except WeightsError as error:
        return wrong("weights", str(error), fetch)
    return Check("weights", f"{DEFAULT_MODEL} in {folder}, {len(tensors)} tensors with the right sha256")
