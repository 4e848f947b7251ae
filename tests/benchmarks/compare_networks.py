"""Ways to run one of Spleeter's U-Nets on a CPU: the same weights, the same patch, turn by turn in one process.

    python tests/benchmarks/compare_networks.py [--repeats 20] [--threads 2] [--json]

Not here: the rest of the pipeline (`pass_through.py`), GPUs. What ONNX Runtime and OpenVINO need: README.md beside this file.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from sep_batch.jobs.demo.synthesis import song
from sep_batch.model import weights
from sep_batch.model.inference import Target, inference_form
from sep_batch.model.spec import PRESETS
from sep_batch.model.spectrogram import magnitude, patch_wave, spectrum_of
from sep_batch.model.unet import UNet
from sep_batch.pipeline.stages.process import prepare_torch

SPEC = PRESETS["spleeter:2stems"]  # of its two U-Nets the first is run
PATCH_S = SPEC.patch_frames * SPEC.hop / SPEC.sample_rate_hz
WARM_UPS = 3  # turns of each that are not counted
PAUSE_S = 0.1  # before each turn, for the threads of the turn before to stop spinning
BASELINE = "seed"

Run = Callable[[Tensor], Tensor]  # magnitudes (1, 2, T, F) to logits of the same shape


@dataclass(frozen=True)
class Subject:
    """What is run: a trained network, the magnitudes it gets, and a folder for what is made of it."""

    unet: UNet
    magnitudes: Tensor
    folder: str

    @classmethod
    def published(cls, folder: str) -> Subject:
        """Take the published weights, and the first patch of a synthesised song."""
        tensors = weights.load(weights.obtain(SPEC.name)).tensors
        unets = {stem: UNet(SPEC) for stem in SPEC.stems}
        nn.ModuleDict(unets).load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
        mix = torch.from_numpy(sum(song(seed=1, seconds=PATCH_S).values()))
        spectrum = spectrum_of(patch_wave(mix, 0, SPEC), SPEC)[None, ..., : SPEC.bins]
        return cls(unets[SPEC.stems[0]].eval(), magnitude(spectrum).contiguous(), folder)

    @cached_property
    def onnx_file(self) -> Path:
        """The network as an ONNX file."""
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
        path = Path(self.folder) / "unet.onnx"
        torch.onnx.export(self.unet, (self.magnitudes,), path, dynamo=True, verbose=False)
        return path


def seed(subject: Subject, threads: int, at_once: int) -> list[Run]:
    """The network as the original repository writes it: NCHW, concatenation."""
    return [torch.inference_mode()(subject.unet.forward)] * at_once


def channels_last(subject: Subject, threads: int, at_once: int) -> list[Run]:
    """The same, laid out channels last."""
    unet = copy.deepcopy(subject.unet).to(memory_format=torch.channels_last)
    return [torch.inference_mode()(lambda x: unet(x.contiguous(memory_format=torch.channels_last)))] * at_once


def ours(subject: Subject, threads: int, at_once: int) -> list[Run]:
    """The form that the product runs."""
    return [inference_form(subject.unet, shape=tuple(subject.magnitudes.shape), target=Target(torch.device("cpu")))] * at_once


def onnxruntime(subject: Subject, threads: int, at_once: int) -> list[Run]:
    """The plain network in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads // at_once
    session = onnxruntime.InferenceSession(subject.onnx_file, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return [lambda x: torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])] * at_once


def openvino(subject: Subject, threads: int, at_once: int) -> list[Run]:
    """The plain network in OpenVINO, held to float32."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": at_once}
    compiled = openvino.Core().compile_model(subject.onnx_file, "CPU", options)
    requests = [compiled.create_infer_request() for _ in range(at_once)]
    return [lambda x, request=request: torch.from_numpy(request.infer([x.numpy()])[0]) for request in requests]


class Variant:
    """One way to run the network.

    Attributes:
        milliseconds: A patch, of each turn.
    """

    def __init__(self, build: Callable[[Subject, int, int], list[Run]], subject: Subject, threads: int, at_once: int) -> None:
        """Prepare it.

        Args:
            build: Makes as many runs as there are patches at once.
            subject: What is run.
            threads: For all of them together.
            at_once: Patches worked on at once, each from a Python thread of its own.
        """
        self.milliseconds: list[float] = []
        torch.set_num_threads(threads // at_once)
        self._runs = build(subject, threads, at_once)
        self._pool = ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads // at_once,))

    def turn(self, magnitudes: Tensor) -> Tensor:
        """Run as many patches as it does at once; note the time and return one's logits."""
        time.sleep(PAUSE_S)
        begun = time.perf_counter()
        logits = list(self._pool.map(lambda run: run(magnitudes), self._runs))
        self.milliseconds.append((time.perf_counter() - begun) * 1000 / len(logits))
        return logits[0]


BUILDS = {BASELINE: seed, "channels last": channels_last, "ours": ours, "onnxruntime": onnxruntime, "openvino": openvino}


def prepare(subject: Subject, threads: int) -> tuple[dict[str, Variant], dict[str, str]]:
    """Return the variants by name, and what others miss: each with all threads on one patch, and with a patch a thread."""
    variants: dict[str, Variant] = {}
    missing: dict[str, str] = {}
    for at_once in sorted({1, threads}):
        for way, build in BUILDS.items():
            name = way if at_once == 1 else f"{way}, a patch a thread"
            try:
                variants[name] = Variant(build, subject, threads, at_once)
            except ModuleNotFoundError as error:
                missing[name] = f"{error.name} is not installed"
    return variants, missing


def measure(variants: dict[str, Variant], magnitudes: Tensor, repeats: int) -> dict[str, dict[str, float | None]]:
    """Return each variant's figures. Every round has a turn of each, and another one begins it.

    Args:
        variants: By name, the baseline among them.
        magnitudes: (1, channels, T, F).
        repeats: Rounds that are counted.
    """
    logits = {name: [variant.turn(magnitudes).clone() for _ in range(WARM_UPS)][-1] for name, variant in variants.items()}
    names = list(variants)
    for number in range(repeats):
        for place in range(len(names)):
            variants[names[(number + place) % len(names)]].turn(magnitudes)
    counted = {name: variant.milliseconds[WARM_UPS:] for name, variant in variants.items()}
    return {
        name: {
            "ms": statistics.median(times),
            "x_real_time": PATCH_S / statistics.median(times) * 1000,
            "times_as_fast": statistics.median(b / t for b, t in zip(counted[BASELINE], times, strict=True)),
            "snr_db": snr_db(logits[BASELINE], logits[name]),
        }
        for name, times in counted.items()
    }


def snr_db(expected: Tensor, found: Tensor) -> float | None:
    """Return energy of the expected over energy of the difference, in dB; None where there is no difference."""
    difference = float((expected.double() - found.double()).square().sum())
    return 10 * math.log10(float(expected.double().square().sum()) / difference) if difference else None


def machine(threads: int) -> dict[str, str | int | list[float]]:
    """Return what the figures depend on, and how busy the machine was in the last 1, 5 and 15 minutes."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    packages = {name: version(name) for name in ("torch", "onnxruntime", "openvino") if find_spec(name)}
    load = [round(value, 2) for value in os.getloadavg()]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count() or 0,
        "threads": threads,
        "load": load,
    } | packages


def table(figures: dict[str, dict[str, float | None]], missing: dict[str, str]) -> Table:
    """Draw the figures, one variant a row; "x seed" is the median of the rounds' ratios, the SNR is to the seed's logits."""
    drawn = Table("variant", "ms a patch", "x real time", "x seed", "SNR, dB")
    for column in drawn.columns[1:]:
        column.justify, column.no_wrap, column.min_width = "right", True, len(str(column.header))
    for name, row in figures.items():
        snr = "same bits" if row["snr_db"] is None else f"{row['snr_db']:.0f}"
        drawn.add_row(name, f"{row['ms']:.1f}", f"{row['x_real_time']:.0f}", f"{row['times_as_fast']:.2f}", snr)
    for name, reason in missing.items():
        drawn.add_row(f"{name}: {reason}")
    return drawn


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="rounds that are counted")
    parser.add_argument("--threads", type=int, default=2, help="of each variant, and patches at once where a thread has its own")
    parser.add_argument("--json", action="store_true", help="print JSON, and no table")
    given = parser.parse_args()
    prepare_torch()  # memory is kept as the product keeps it, for every variant
    about = machine(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject.published(folder)
        variants, missing = prepare(subject, given.threads)
        figures = measure(variants, subject.magnitudes, given.repeats)
    if given.json:
        Console(soft_wrap=True).print_json(json.dumps({"machine": about, "figures": figures, "missing": missing}))
        return
    console = Console()
    console.print(", ".join(f"{name} {value}" for name, value in about.items()), table(figures, missing), sep="\n")


if __name__ == "__main__":
    main()
