"""Rows of part 1 about speed: forms of one U-Net, and the whole separator by batch, threads, precision and workers.

Forms run on a batch of one patch of music, repeated. Rates of the separator are seconds of audio a second, of both stems, from
patches in memory to measured and rounded stems in memory, as the stage Separate does it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from ledger import Row, Values
from material import Setup
from numerics import agreement
from roofs import DTYPES, measured, roof, use, work_of
from torch import Tensor

from sep_batch.model.inference import Target, inference_form
from sep_batch.model.parts import Part
from sep_batch.model.separator import PRECISIONS, Piece, Separator
from sep_batch.model.wiener import FilteredPiece, filtered
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import analysis, stems

BATCHES, COMPILED_BATCH = (1, 5, 10, 20, 32), 10
PART_PATCHES = (17, 20, 14, 19, 20, 16)  # of songs of 3 to 5 minutes, whose parts have at most 20
PRECISION_ORDER = ("float32", "tf32", "float16", "bfloat16")
Network = Callable[[Tensor], Tensor]  # float32 magnitudes (batch, 2, T, F) to float32 logits of the same shape


def rows(*, small: bool) -> list[Row]:
    """Return the rows, in order; compiled forms, which take longest to prepare, come last and of one batch size only."""
    every = []
    for form in ("inference", "nchw", "channels_last", "graph"):
        for precision in PRECISION_ORDER:
            every += [_row(form, precision, batch) for batch in ((1, 2) if small else BATCHES)]
    every += separator_rows(small=small)
    every += [_row("compile", precision, 2 if small else COMPILED_BATCH, alone=True) for precision in PRECISION_ORDER]
    return every


def _row(form: str, precision: str, batch: int, *, alone: bool = False) -> Row:
    measure = partial(form_rate, form=form, precision=precision, batch=batch)
    is_of_cuda = form in ("graph", "compile") or precision in ("tf32", "float16")
    return Row(f"forms.{form}.{precision}.{batch}", measure, "cuda" if is_of_cuda else "", alone)


def separator_rows(*, small: bool) -> list[Row]:
    """Return the rows of the whole separator."""
    every = [
        Row(f"separator.batch.{batch}", partial(separator_rate, batch=batch)) for batch in ((1, 2) if small else (5, 10, 20))
    ]
    every += [Row(f"separator.threads.{number}", partial(separator_rate, threads=number)) for number in (1, 2, 3)]
    every += [
        Row(f"separator.precision.{name}", partial(separator_rate, precision=name), "cuda" if name in ("tf32", "float16") else "")
        for name in PRECISION_ORDER
    ]
    every += [Row(f"separator.stft.{where}", partial(separator_rate, stft=where)) for where in ("cpu", "gpu")]
    every += [Row("separator.mwf", partial(separator_rate, mwf=True))]
    every += [Row(f"separator.workers.{number}", partial(workers_rate, workers=number), "cuda", alone=True) for number in (1, 2)]
    return every


def plain(setup: Setup, precision: str, batch: int, layout: torch.memory_format) -> Network:
    """Return the network as it is written, in one memory layout."""
    dtype = DTYPES[precision]
    unet = copy.deepcopy(setup.unet).to(device=setup.device, dtype=dtype, memory_format=layout)
    return lambda x: unet(x.to(dtype).contiguous(memory_format=layout)).float()


def ours(setup: Setup, precision: str, batch: int) -> Network:
    """Return the form that the product runs."""
    target = Target(torch.device(setup.device), DTYPES[precision])
    return inference_form(setup.unet, shape=(batch, *setup.patch.shape[1:]), target=target)


def compiled(setup: Setup, precision: str, batch: int) -> Network:
    """Return the product's form through torch.compile."""
    form = ours(setup, precision, batch)
    network: Network = torch.compile(lambda x: form(x))  # noqa: PLW0108 (it compiles functions, and `form` is an object)
    return network


def graphed(setup: Setup, precision: str, batch: int) -> Network:
    """Return the product's form as a CUDA graph; each call copies its input into the graph's."""
    form, given = ours(setup, precision, batch), setup.patch.to(setup.device).repeat(batch, 1, 1, 1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            form(given)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = form(given)

    def call(x: Tensor) -> Tensor:
        given.copy_(x)
        graph.replay()
        return result

    return call


FORMS: dict[str, Callable[[Setup, str, int], Network]] = {
    "nchw": partial(plain, layout=torch.contiguous_format),
    "channels_last": partial(plain, layout=torch.channels_last),
    "inference": ours,
    "graph": graphed,
    "compile": compiled,
}
_EXPECTED: dict[str, Tensor] = {}  # logits of the plain network on the CPU


@torch.inference_mode()
def form_rate(setup: Setup, form: str, precision: str, batch: int) -> Values:
    """Return the speed of a form beside the floors that the roofs give, peak memory, and agreement with the CPU's logits."""
    use(precision)
    if setup.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    if "logits" not in _EXPECTED:
        _EXPECTED["logits"] = setup.unet(setup.patch)
    begun = time.perf_counter()
    network = FORMS[form](setup, precision, batch)
    magnitudes = setup.patch.to(setup.device).repeat(batch, 1, 1, 1)
    last = network(magnitudes)[-1:].cpu()
    prepared_s = time.perf_counter() - begun
    taken_s, work = measured(setup, lambda: network(magnitudes)), work_of(setup.spec)
    flop, size = batch * work.flop, work.bytes(batch, DTYPES[precision].itemsize)
    floor_s = max(flop / roof(setup, precision), size / roof(setup, "copy"))
    patch_s = setup.spec.patch_samples / setup.spec.sample_rate_hz
    return {
        "ms_a_patch": taken_s * 1e3 / batch,
        "x_real_time": batch * patch_s / taken_s,
        "tflop_s": flop / taken_s / 1e12,
        "gb_s": size / taken_s / 1e9,
        "floor_ms_a_patch": floor_s * 1e3 / batch,
        "x_floor": taken_s / floor_s,
        "prepared_s": prepared_s,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if setup.on_gpu else None,
        **agreement(_EXPECTED["logits"], last),
    }


def separator_rate(
    setup: Setup,
    *,
    precision: str = "float32",
    batch: int | None = None,
    threads: int = 1,
    stft: str = "gpu",
    mwf: bool = False,
    rounds: int | None = None,
) -> Values:
    """Return the rate of a separator that one call more than it has threads keeps busy."""
    patches = (2, 1) if setup.small else PART_PATCHES
    parts = [setup.part(number, as_waves=stft == "gpu") for number in patches]
    separator = setup.separator(precision, batch=batch, threads=threads)
    values: dict[str, Any] = {"weights_sha256": setup.loaded.sha256, "spec": setup.spec, "stems": setup.spec.stems}
    settings = Settings(**values, precision=precision, mwf=mwf)
    with ThreadPoolExecutor(threads + 1) as calls:
        list(calls.map(lambda part: _separated(separator, part, settings), parts[: threads + 1]))  # not counted
        begun = time.perf_counter()
        every: Sequence[Part] = parts * (rounds or (1 if setup.small else 2))
        list(calls.map(lambda part: _separated(separator, part, settings), every))
        taken_s = time.perf_counter() - begun
    audio_s = sum(part.samples for part in every) / setup.spec.sample_rate_hz
    return {"x_real_time": audio_s / taken_s, "audio_s": audio_s, "seconds": taken_s}


def _separated(separator: Separator, part: Part, settings: Settings) -> list[dict[str, Any]]:
    waves = stems.Stems(settings, part.samples, analysis.Sums(settings, begin=0, samples=part.samples))
    for piece in _pieces(separator, part, settings):
        waves.add(piece.waves, band=piece.band)
    return waves.measured()


def _pieces(separator: Separator, part: Part, settings: Settings) -> Iterable[Piece | FilteredPiece]:
    if not settings.mwf:
        return separator.separate_parts([part], settings.stems, null_test=True)
    patches = [piece.patch for piece in separator.estimate_parts([part])]
    return filtered(patches, part.samples, settings.spec, settings.stems)


def workers_rate(setup: Setup, workers: int) -> Values:
    """Return the rate of several processes on one GPU at once, added up over the time in which all of them work."""
    from workers import together

    answers = together(setup, "forms", "one_worker", workers)
    return {"x_real_time": sum(answers), "each": answers}


def one_worker(setup: Setup) -> Callable[[], float]:
    """Prepare a worker; the function that is returned measures its rate."""
    separator_rate(setup, rounds=1)
    return lambda: float(separator_rate(setup, rounds=2 if setup.small else 6)["x_real_time"])


assert set(PRECISION_ORDER) == set(PRECISIONS)  # a precision that is added gets its rows
