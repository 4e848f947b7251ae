"""Checks of `doctor`: codecs, weights and Ray. Each is tried, not only looked for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np

from sep_batch.jobs.engine.engine import try_ray
from sep_batch.jobs.setup import address as clusters
from sep_batch.jobs.setup.check import Check, first_line, note, wrong
from sep_batch.jobs.setup.options import DEFAULT_MODEL
from sep_batch.model import weights
from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.audio.codecs import CODECS, Codec
from sep_batch.pipeline.audio.encoding import encode

LEVEL = 0.1  # by which a lossy codec may change the level of a tone
_READ = {  # what music comes in beside what stems are written as, with the rate that the encoder takes
    "alac": (Codec("mp4", "alac", "s16p"), 44_100),
}


def ray_start(address: str | None = None) -> Check:
    """Start Ray as a run does, or join a cluster.

    Args:
        address: The cluster's, as --address takes it. Default: RAY_ADDRESS.
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
    """Check the cluster that Ray's file of the last one names, where runs do not join any; a stale file misleads `auto`.

    Args:
        address: As --address takes it.
    """
    if (last := clusters.last_cluster()) is None or clusters.address_of(address):
        return
    try:
        clusters.reach(last)
        yield note(
            "Ray's file", f"a cluster is at {last}", "runs here start a Ray of their own beside it; --address auto joins it"
        )
    except clusters.NoCluster as error:
        yield note("Ray's file", error.problem, f"only --address auto and Ray's own tools read it: delete {last.source}")


def decoder() -> Check:
    """Start the decoder's process, and tell what its sandbox holds on this kernel."""
    unfiltered = audio.start()
    if unfiltered:
        return note("decoder", f"a process of its own, with limits, {unfiltered}", "take files only from where you trust them")
    return Check("decoder", "a process of its own: no network, no files, no processes, 3 GiB of memory at most")


def codecs() -> Check:
    """Encode and decode a second of every format."""
    faults = [f"{name}: {why}" for name, why in ((name, _codec_fault(*each)) for name, each in _formats()) if why]
    names = [name for name, _ in _formats()]
    if faults:
        return wrong(
            "codecs",
            "; ".join(faults),
            "install their libraries anew: pip install --force-reinstall av soundfile",
        )
    return Check("codecs", f"a second of each was written and read: {', '.join(names)}")


def _formats() -> Iterator[tuple[str, tuple[Codec, int]]]:
    for format, depths in CODECS.items():
        yield from ((f"{format} {depth}".strip(), (codec, codec.rate_for(44_100))) for depth, codec in depths.items())
    yield from _READ.items()


def _codec_fault(codec: Codec, rate_hz: int) -> str | None:
    """Return what is wrong with a second that was written and read again; None where nothing is."""
    tone = 0.5 * np.sin(2 * np.pi * 440 / rate_hz * np.arange(rate_hz, dtype=np.float32))
    wave = np.stack([tone, -tone])
    try:
        written = encode(wave, codec, rate_hz=rate_hz, bitrate=128_000 if codec.samples.startswith("flt") else None)
        pieces, _ = audio.decode(io.BytesIO(written), rate_hz=rate_hz)
        level = float(np.std(np.concatenate(list(pieces), axis=1)) / np.std(wave))
    except Exception as error:  # noqa: BLE001 (the libraries' own kinds are not known here; whatever it is, it is the fault)
        return first_line(error)
    return None if abs(level - 1) < LEVEL else f"read at {level:.2f} of the level that was written"


def cache() -> Check:
    """Tell whether models and forecasts can be kept, in the user's cache folder."""
    try:
        return Check("cache", f"{weights.writable_cache()}: can be written to")
    except weights.WeightsError as error:
        problem, _, advice = str(error).rpartition("; ")
        if weights.is_cached(DEFAULT_MODEL):
            return note("cache", f"{problem}; {DEFAULT_MODEL} is there", f"for other models and forecasts, {advice}")
        return wrong("cache", f"{problem}, and no published model can be fetched", advice)


def default_weights() -> Check:
    """Tell whether the default model's weights are here, and are what was published."""
    folder = weights.cached(DEFAULT_MODEL)
    fetch = f"sep-batch models fetch {DEFAULT_MODEL}"
    if not weights.is_cached(DEFAULT_MODEL):
        return note(
            "weights", f"{DEFAULT_MODEL} is not in {folder}", f"a run fetches it; so does {fetch}, without a network --from"
        )
    try:
        _, tensors = weights.load(folder)
    except weights.WeightsError as error:
        return wrong("weights", str(error), fetch)
    return Check("weights", f"{DEFAULT_MODEL} in {folder}, {len(tensors)} tensors with the right sha256")
