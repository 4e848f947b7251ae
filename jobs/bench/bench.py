"""`bench`: measure the speed of each step on one thread and one device, and of a whole run; name its bottleneck.

from sep_batch.jobs.bench import run_bench
measured = run_bench(seconds=240, gpus=0)
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from sep_batch.jobs.demo import synthesis
from sep_batch.jobs.demo.demo import FLAC, MP3
from sep_batch.jobs.engine import engine
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup import options
from sep_batch.model import weights
from sep_batch.model.parts import Part, split_parts
from sep_batch.model.separator import Separator
from sep_batch.model.spec import ModelSpec
from sep_batch.model.spectrogram import magnitude, spectrum_of
from sep_batch.pipeline import audio, errors, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import analysis, stems
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.separate import Separate
from sep_batch.pipeline.storage import uris

REPEATS = 5  # rounds over all steps, so that a slow moment of the machine affects all of them
RATE_HZ = 44_100
SONG_S = 12.0  # duration of the synthesised song; longer tracks repeat it
TRACK_S = 60.0
EXCERPT_S = 30.0  # longest audio for the steps on a CPU
MP3_BITRATE = 192_000


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


@dataclass(frozen=True)
class Measured:
    """Speeds of the steps on `device`, and the summary of the run."""

    device: str
    rates: tuple[Rate, ...]
    run: Summary

    def to_json(self) -> str:
        """Return the measurements as one line of JSON."""
        rates = [dataclasses.asdict(rate) for rate in self.rates]
        run = json.loads(self.run.to_json())
        return json.dumps({"device": self.device, "rates": rates, "x_real_time": _speed(self.run), "run": run})


class WithoutUNets(Separator):
    """A Separator without its networks: the estimate of each stem is the magnitude of the mix."""

    def estimates(self, magnitudes: Tensor) -> Tensor:
        """Return the magnitudes once for every stem, (stems, batch, channels, T, F)."""
        return magnitudes.expand(len(self.spec.stems), *magnitudes.shape).clone()


def run_bench(
    seconds: float,
    out: str | None = None,
    *,
    model: str = options.DEFAULT_MODEL,
    gpus: str | int = "auto",
    cpus: int | None = None,
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
        format: File format of the stems.
        precision: Compute precision of the U-Nets.
        stft: Stage that computes the STFT: "cpu" is Analyze, "gpu" is Separate.

    Raises:
        RunError: An argument is invalid, or the run failed.
    """
    if not 1 <= seconds < float("inf"):
        raise errors.UsageError(f"--seconds {seconds:g}: expected 1 or more")
    run_options = options.Options(model=model, gpus=gpus, cpus=cpus, format=format, precision=precision, stft=stft)
    options.check(run_options)
    engine.look_ahead(run_options)
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
        rates = measure(list(steps(settings, model, device, folder, min(seconds, EXCERPT_S), stft=stft)))
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


def write_catalog(folder: str, seconds: float) -> int:
    """Write tracks of about a minute, MP3 and FLAC in turn, at least one of each; return their number.

    Args:
        folder: The tracks go to `catalog` below it.
        seconds: Seconds of audio in all tracks together.
    """
    tracks = max(2, round(seconds / TRACK_S))
    wave = np.sum(list(_played(seconds / tracks).values()), axis=0)
    for number in range(tracks):
        codec = (MP3, FLAC)[number % 2]
        shifted = np.roll(wave, number * RATE_HZ, axis=1)
        storage.put(f"{folder}/catalog/{number:04}.{codec.container}", _encoded(shifted, codec))
    return tracks


def _played(seconds: float) -> dict[str, np.ndarray]:
    """Return the stems of a song, (2, samples) float32 each; the song repeats after `SONG_S`."""
    song, samples = synthesis.song(1, min(seconds, SONG_S), RATE_HZ), round(seconds * RATE_HZ)
    return {name: np.resize(wave.T, (samples, 2)).T for name, wave in song.items()}


def _encoded(wave: np.ndarray, codec: codecs.Codec) -> bytes:
    return encode(wave, codec, rate_hz=RATE_HZ, bitrate=MP3_BITRATE if codec == MP3 else None)


def _refuse_failed(summary: Summary) -> None:
    """Raise an error with the exit code of a run that failed: its speed means nothing."""
    if summary.exit_code:
        counts = ", ".join(f"{count} {name}" for name, count in summary.failed.most_common())
        error = errors.RunError(f"the run failed, so nothing was measured: {summary.stopped or counts}")
        error.exit_code = summary.exit_code
        raise error


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
    played = list(_played(seconds).values())
    mix = np.sum(played, axis=0)
    for codec in (MP3, FLAC):
        yield Step(f"decode {codec.container}", seconds, _decoding(_encoded(mix, codec), settings))
    if stft == "cpu":
        yield Step("STFT", seconds, lambda: list(split_parts([torch.from_numpy(mix)], settings.spec, PATCHES_PER_PART)))
    yield from _on_device(settings, model, device, mix, stft=stft)
    waves = [codecs.raw(wave, settings.form) for _, wave in zip(settings.stems, itertools.cycle(played), strict=False)]
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
    separator = Separate(RunContext(settings, "", "", "", ""), str(weights_folder), device=device).separator
    rest = WithoutUNets(spec, weights.load(weights_folder)[1], device=device)
    seconds = separator.batch * spec.patch_samples / spec.sample_rate_hz
    samples = separator.batch * spec.patch_samples - spec.frame_length
    (part,) = split_parts([torch.from_numpy(np.resize(mix.T, (samples, 2)).T)], spec, separator.batch)
    batch = torch.from_numpy(part.payload).unflatten(0, (separator.batch, -1)).to(device).transpose(1, 2)
    magnitudes = magnitude(batch[..., : spec.bins])
    waves = torch.from_numpy(np.resize(mix, (separator.batch, spec.channels, _samples_seen(spec)))).to(device)
    if stft == "gpu":
        yield Step("STFT", seconds, lambda: _done(spectrum_of(waves, spec)), device=device)
    yield Step("U-Nets", seconds, lambda: _done(separator.estimates(magnitudes)), device=device)
    yield Step("masks + inverse", seconds, lambda: _inverse(rest, part, settings), device=device)


def _samples_seen(spec: ModelSpec) -> int:
    """Return the number of samples that the frames of a patch cover."""
    return spec.patch_samples + spec.frame_length - spec.hop


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


def _speed(run: Summary) -> float:
    return run.audio_s / run.seconds


def show(measured: Measured, *, as_json: bool) -> None:
    """Print the measurements on stdout: one line of JSON, or a table and the bottleneck."""
    if as_json:
        print(measured.to_json())  # noqa: T201 (one line of any length)
        return
    run, console = measured.run, Console(highlight=False)
    table = Table("step", "on", box=None, pad_edge=False, header_style="bold")
    for name in ("x real time", "MB/s"):
        table.add_column(name, justify="right")
    for rate in measured.rates:
        where = "one thread" if rate.device == "cpu" else rate.device
        table.add_row(rate.name, where, f"{rate.x_real_time:.1f}", f"{rate.mb_s:.0f}" if rate.mb_s else "")
    pools = ", ".join(f"{stage} {actors}" for stage, actors in run.actors.items())
    table.add_row("whole run", pools, f"{_speed(run):.1f}", "")
    table.add_row(f"after its start of {run.start_s:.0f} s", "", f"{run.audio_s / (run.seconds - run.start_s):.1f}", "")
    console.print(table)
    console.print(run.bottleneck, soft_wrap=True)
