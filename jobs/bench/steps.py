"""Steps of the pipeline that `bench` measures, each on one thread or one device, and their speeds."""

from __future__ import annotations

import io
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sep_batch.jobs.bench.catalog import encoded, played
from sep_batch.jobs.demo.demo import FLAC, MP3
from sep_batch.model import weights
from sep_batch.model.parts import Part, split_parts
from sep_batch.model.separator import Separator
from sep_batch.model.spectrogram import magnitude, spectrum_of
from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import analysis, stems
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.storage import uris

REPEATS = 5  # rounds over all steps, so that a slow moment of the machine affects all of them
EXCERPT_S = 30.0  # longest audio for the steps on a CPU


@dataclass(frozen=True)
class Step:
    """One step to measure: a function, the seconds of audio and the bytes that it processes, and its device."""

    name: str
    audio_s: float
    call: Callable[[], object]
    bytes: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Rate:
    """Speed of a step, the median of the repeats.

    Attributes:
        name: Name of the step.
        x_real_time: Seconds of audio a second.
        mb_s: Megabytes a second; only of the step `put`.
        device: Torch's name of the device; a step on "cpu" runs on one thread.
    """

    name: str
    x_real_time: float
    mb_s: float | None = None
    device: str = "cpu"


class WithoutUNets(Separator):
    """A Separator without its networks: the estimate of each stem is the magnitude of the mix."""

    def estimates(self, magnitudes: Tensor) -> Tensor:
        """Return the magnitudes once for every stem, (stems, batch, channels, T, F)."""
        return magnitudes.expand(len(self.spec.stems), *magnitudes.shape).clone()


def steps(settings: Settings, model: str, device: str, folder: str, seconds: float, *, stft: str) -> Iterator[Step]:
    """Yield the steps to measure, in the order of the pipeline; each calls the code of a run.

    Args:
        settings: Settings of the run.
        model: Name or folder of the model; its weights are in the cache already.
        device: Device of the U-Nets, masks and inverse STFT.
        folder: Folder or prefix that the step `put` writes to.
        seconds: Seconds of audio for the steps on a CPU.
        stft: Stage that computes the STFT: "cpu" is Analyze, "gpu" is Separate.
    """
    song = list(played(seconds).values())
    mix = np.sum(song, axis=0)
    for codec in (MP3, FLAC):
        yield Step(f"decode {codec.container}", seconds, _decoding(encoded(mix, codec), settings))
    if stft == "cpu":
        yield Step("STFT", seconds, lambda: list(split_parts([torch.from_numpy(mix)], settings.spec, PATCHES_PER_PART)))
    yield from _on_device(settings, model, device, mix, stft=stft)
    waves = [codecs.raw(wave, settings.form) for _, wave in zip(settings.stems, itertools.cycle(song), strict=False)]
    yield Step(f"encode {settings.format}", seconds, lambda: [_written(frames, settings) for frames in waves])
    contents = {f"{folder}/put/{stem}": _written(frames, settings) for stem, frames in zip(settings.stems, waves, strict=True)}
    yield Step("put", seconds, lambda: _put(contents), sum(map(len, contents.values())))


def _decoding(content: bytes, settings: Settings) -> Callable[[], object]:
    def call() -> None:
        pieces, _ = audio.decode(io.BytesIO(content), rate_hz=settings.spec.sample_rate_hz)
        for _ in pieces:
            pass

    return call


def _on_device(settings: Settings, model: str, device: str, mix: np.ndarray, *, stft: str) -> Iterator[Step]:
    """Yield the steps of Separate, each over one full batch of patches; a short mix is repeated to fill it."""
    spec = settings.spec
    weights_folder = weights.obtain(model) if uris.is_local(model) else storage.bring(model, weights.writable_cache() / "brought")
    work = RunContext(settings, "", "", "", "", has_ended=lambda: False)  # this process is not a worker's
    separator = Separate(work, str(weights_folder), device=device).separator
    rest = WithoutUNets(spec, weights.load(weights_folder).tensors, device=device)
    seconds = separator.batch * spec.patch_samples / spec.sample_rate_hz
    samples = separator.batch * spec.patch_samples - spec.frame_length
    (part,) = split_parts([torch.from_numpy(np.resize(mix.T, (samples, 2)).T)], spec, separator.batch)
    batch = torch.from_numpy(part.payload).unflatten(0, (separator.batch, -1)).to(device).transpose(1, 2)
    magnitudes = magnitude(batch[..., : spec.bins])
    waves = torch.from_numpy(np.resize(mix, (separator.batch, spec.channels, spec.patch_wave_samples))).to(device)
    if stft == "gpu":
        yield Step("STFT", seconds, lambda: _done(spectrum_of(waves, spec)), device=device)
    yield Step("U-Nets", seconds, lambda: _done(separator.estimates(magnitudes)), device=device)
    yield Step("masks + inverse", seconds, lambda: _inverse(rest, part, settings), device=device)


def _done(result: Tensor) -> None:
    """Wait until the device has computed a result."""
    if result.is_cuda:
        torch.cuda.synchronize()


def _inverse(rest: Separator, part: Part, settings: Settings) -> None:
    waves = stems.Stems(settings, part.samples, analysis.Sums(settings, begin=0, samples=part.samples))
    for piece in rest.separate_parts([part], settings.stems):
        waves.add(piece.waves)
    waves.measured()


def _written(frames: np.ndarray, settings: Settings) -> bytes:
    content = io.BytesIO()
    blocks = (frames[begin : begin + codecs.BLOCK] for begin in range(0, len(frames), codecs.BLOCK))
    stems.write(content, blocks, settings, samples=len(frames))
    return content.getvalue()


def _put(contents: Mapping[str, bytes]) -> None:
    for uri, content in contents.items():
        storage.put(uri, content)


def measure(measured: Sequence[Step]) -> tuple[Rate, ...]:
    """Run every step in turn, `REPEATS` times after a warm-up round, and return its median rate."""
    rounds = [[_seconds(step) for step in measured] for _ in range(1 + REPEATS)]
    medians = [statistics.median(taken) for taken in zip(*rounds[1:], strict=True)]
    return tuple(
        Rate(step.name, step.audio_s / taken, step.bytes / 1e6 / taken if step.bytes else None, step.device)
        for step, taken in zip(measured, medians, strict=True)
    )


def _seconds(step: Step) -> float:
    begun = time.perf_counter()
    step.call()
    return time.perf_counter() - begun
