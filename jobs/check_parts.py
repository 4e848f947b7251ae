"""What `doctor` asks of what a run is made of besides torch: the codecs, the weights, Ray. Each is tried, not only looked for."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np

from sep_batch.jobs.check import Check, first_line, note, wrong
from sep_batch.jobs.engine import try_ray
from sep_batch.jobs.options import DEFAULT_MODEL
from sep_batch.model import weights
from sep_batch.pipeline import audio, failures
from sep_batch.pipeline.audio.codecs import CODECS, Codec
from sep_batch.pipeline.audio.encoding import encode

LEVEL = 0.1  # by which a lossy codec may change the level of a tone
_READ = {  # what music comes in beside what stems are written as, with the rate that the encoder takes
    "alac": (Codec("mp4", "alac", "s16p"), 44_100),
}


def ray_start() -> Check:
    """Start Ray as a run does, or join the cluster of RAY_ADDRESS."""
    found = version("ray")
    try:
        return Check("Ray", f"{found}, {try_ray()}")
    except failures.RunError as error:
        where = (
            "does the cluster of RAY_ADDRESS run, with this version of Ray" if os.environ.get("RAY_ADDRESS") else "see its logs"
        )
        return wrong("Ray", f"{found} does not start: {error}", f"{where}; in Ray's temporary folder, /tmp/ray by default")


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


def default_weights() -> Check:
    """Tell whether the default model's weights are here, and are what was published."""
    folder = weights.cached(DEFAULT_MODEL)
    fetch = f"sep-batch models fetch {DEFAULT_MODEL}"
    if not (folder / weights.MODEL_FILE).exists():
        return note(
            "weights", f"{DEFAULT_MODEL} is not in {folder}", f"a run fetches it; so does {fetch}, without a network --from"
        )
    try:
        _, tensors = weights.load(folder)
    except weights.WeightsError as error:
        return wrong("weights", str(error), fetch)
    return Check("weights", f"{DEFAULT_MODEL} in {folder}, {len(tensors)} tensors with the right sha256")
