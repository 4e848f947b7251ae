"""Rows of part 2 about codecs: seconds of audio a second, on one thread, and in as many processes at once as there are cores."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ledger import Row, Values
from material import SEED, Setup, mixed
from workers import together

from sep_batch.jobs.bench.catalog import encoded
from sep_batch.jobs.demo.demo import FLAC, MP3
from sep_batch.pipeline import audio
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import stems
from sep_batch.pipeline.stages.k_weighting import KWeighted
from sep_batch.pipeline.stages.process import prepare_torch

EXCERPT_S, EXCERPT_SMALL_S = 60.0, 2.0
MEASURED_S, MEASURED_SMALL_S = 3.0, 0.05
Operation = Callable[[], object]  # works through the excerpt once


def rows() -> list[Row]:
    """Return the rows, in order."""
    return [
        Row(f"codecs.{operation}.{processes}", partial(rate, operation=operation, processes=processes))
        for processes in ("one", "all")
        for operation in OPERATIONS
    ]


def rate(setup: Setup, operation: str, processes: str) -> Values:
    """Return the rate of an operation; of several processes, the sum."""
    excerpt(setup)
    if processes == "one":
        threads = torch.get_num_threads()
        try:
            return {"x_real_time": prepared(setup, operation)()}
        finally:
            torch.set_num_threads(threads)
    each = together(setup, "codec_rates", "prepared", setup.cores, operation)
    return {"x_real_time": sum(each), "processes": len(each), "slowest": min(each)}


def excerpt(setup: Setup) -> dict[str, Path]:
    """Return the excerpt's files: flac and mp3, and npy of its (samples, 2) int16."""
    files = {name: setup.work / "codecs" / f"excerpt.{name}" for name in ("flac", "mp3", "npy")}
    if not files["npy"].exists():
        mix = mixed(SEED, EXCERPT_SMALL_S if setup.small else EXCERPT_S)
        files["npy"].parent.mkdir(parents=True, exist_ok=True)
        for name, codec in (("flac", FLAC), ("mp3", MP3)):
            files[name].write_bytes(encoded(mix, codec))
        np.save(files["npy"], codecs.raw(mix, codecs.CODECS["flac"]["16"]))
    return files


def prepared(setup: Setup, operation: str) -> Callable[[], float]:
    """Prepare an operation on one thread; the function that is returned measures its rate."""
    prepare_torch()
    files = excerpt(setup)
    call = OPERATIONS[operation](setup, files)
    call()
    seconds = len(np.load(files["npy"], mmap_mode="r")) / setup.spec.sample_rate_hz

    def measure() -> float:
        begun, limit_s = time.perf_counter(), MEASURED_SMALL_S if setup.small else MEASURED_S
        calls, taken_s = 0, 0.0
        while taken_s < limit_s:
            call()
            calls, taken_s = calls + 1, time.perf_counter() - begun
        return calls * seconds / taken_s

    return measure


def decode(setup: Setup, files: dict[str, Path], kind: str) -> Operation:
    """Decode a file, in the decoder's process."""
    content = files[kind].read_bytes()

    def call() -> None:
        pieces, _ = audio.decode(io.BytesIO(content), rate_hz=setup.spec.sample_rate_hz)
        for _ in pieces:
            pass

    return call


def encode(setup: Setup, files: dict[str, Path], kind: str) -> Operation:
    """Encode one stem."""
    settings = Settings(weights_sha256="", spec=setup.spec, stems=setup.spec.stems, format=kind)
    frames = np.load(files["npy"])
    blocks = [frames[begin : begin + codecs.BLOCK] for begin in range(0, len(frames), codecs.BLOCK)]
    return lambda: stems.write(io.BytesIO(), blocks, settings, samples=len(frames))


def loudness(setup: Setup, files: dict[str, Path]) -> Operation:
    """Measure the loudness of one stem, on the CPU."""
    wave = torch.from_numpy(codecs.wave_of(np.load(files["npy"])))[None]

    def call() -> None:
        KWeighted(setup.spec.sample_rate_hz, stems=1, begin=0, samples=wave.shape[-1]).add(wave)

    return call


OPERATIONS: dict[str, Callable[[Setup, dict[str, Path]], Operation]] = {
    "decode_flac": partial(decode, kind="flac"),
    "decode_mp3": partial(decode, kind="mp3"),
    "encode_flac": partial(encode, kind="flac"),
    "loudness": loudness,
}
