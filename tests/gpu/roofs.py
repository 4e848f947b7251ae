"""Roofs of the machine and the work of a U-Net: rates that nothing exceeds, operations and bytes that nothing saves.

A rate of copying counts bytes read and written; a multiplication and an addition are two operations.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import torch
from ledger import Row, Values
from material import Setup
from torch import nn

from sep_batch.model.separator import PRECISIONS
from sep_batch.model.spec import ModelSpec
from sep_batch.model.unet import UNet

WARM_UPS, BLOCKS, BLOCK_S = 3, 5, 0.1  # calls that are not counted; blocks of calls, of so many seconds each
DTYPES = {name: getattr(torch, dtype) for name, dtype in PRECISIONS.items()}


def rows() -> list[Row]:
    """Return the rows, in order."""
    every = [
        Row(f"roof.matmul.{precision}", partial(matmul, precision=precision), "cuda" if precision in ("tf32", "float16") else "")
        for precision in PRECISIONS
    ]
    every.append(Row("roof.copy", copy))
    every += [
        Row(f"copies.{kind}.{way}", partial(transfer, kind=kind, way=way), "cuda")
        for kind in ("pageable", "pinned")
        for way in ("to_device", "to_host")
    ]
    every.append(Row("unet.work", unet_work))
    return every


def use(precision: str) -> torch.dtype:
    """Set torch's TF32 modes for a precision, and return the compute dtype."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    dtype: torch.dtype = DTYPES[precision]
    return dtype


def seconds(call: Callable[[], object], *, on_gpu: bool, block_s: float = BLOCK_S, blocks: int = BLOCKS) -> float:
    """Return the seconds of a call: the median of blocks of calls that follow each other, each block with one wait at its end."""

    def block(calls: int) -> float:
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        if on_gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / calls

    once = block(WARM_UPS) and block(1)
    calls = max(1, math.ceil(block_s / max(once, 1e-6)))
    return statistics.median(block(calls) for _ in range(blocks))


def measured(setup: Setup, call: Callable[[], object]) -> float:
    """Return the seconds of a call, by fewer and shorter blocks where sizes are small."""
    block_s, blocks = (0.001, 2) if setup.small else (BLOCK_S, BLOCKS)
    return seconds(call, on_gpu=setup.on_gpu, block_s=block_s, blocks=blocks)


_ROOFS: dict[tuple[str, str], float] = {}  # by device and name: FLOP/s of a precision, bytes/s of "copy"


def roof(setup: Setup, name: str) -> float:
    """Return a measured roof: FLOP/s of matrix products in a precision, or bytes/s of "copy" on the device."""
    key = (setup.device, name)
    if key not in _ROOFS:
        _ROOFS[key] = _copy_rate(setup) if name == "copy" else _matmul_rate(setup, name)
    return _ROOFS[key]


def _matmul_rate(setup: Setup, precision: str) -> float:
    size, dtype = (256 if setup.small else 8192 if setup.on_gpu else 2048), use(precision)
    left, right = (torch.randn((size, size), device=setup.device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)
    return float(2 * size**3 / measured(setup, lambda: torch.mm(left, right, out=out)))


def _copy_rate(setup: Setup) -> float:
    source = torch.zeros((16 << 20) if setup.small else (4 << 30) if setup.on_gpu else (256 << 20), dtype=torch.uint8)
    source = source.to(setup.device)
    target = torch.empty_like(source)
    return 2 * source.numel() / measured(setup, lambda: target.copy_(source))


def matmul(setup: Setup, precision: str) -> Values:
    """Return the rate of a product of two square matrices."""
    return {"tflop_s": roof(setup, precision) / 1e12}


def copy(setup: Setup) -> Values:
    """Return the rate of a copy on the device."""
    return {"gb_s": roof(setup, "copy") / 1e9}


def transfer(setup: Setup, kind: str, way: str) -> Values:
    """Return the rate of copies between host and device, of as many bytes as a batch of spectra has."""
    shape = (setup.batch, setup.spec.patch_frames, setup.spec.channels, setup.spec.bins)
    host = torch.zeros(shape, dtype=torch.complex64, pin_memory=kind == "pinned")
    device = torch.zeros(shape, dtype=torch.complex64, device=setup.device)
    source, target = (host, device) if way == "to_device" else (device, host)
    taken_s = measured(setup, lambda: target.copy_(source, non_blocking=True))
    size = host.numel() * host.element_size()
    return {"gb_s": size / taken_s / 1e9, "mb": size / 1e6, "ms": taken_s * 1e3}


class Work(NamedTuple):
    """Work of one U-Net for one patch.

    Attributes:
        flop: Operations of all convolutions.
        values: Values that the convolutions read and write, each once, where all else is fused into them.
        weights: Values of the weights, read once a batch.
    """

    flop: int
    values: int
    weights: int

    def bytes(self, batch: int, size: int) -> int:
        """Return the least bytes that a batch moves, for values of `size` bytes."""
        return (batch * self.values + self.weights) * size


@cache
def work_of(spec: ModelSpec) -> Work:
    """Count a U-Net's work by the shapes of its convolutions, which are run without values."""
    flop = values = weights = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal flop, values, weights
        weight = module.weight
        transposed = isinstance(module, nn.ConvTranspose2d)
        places = (inputs[0] if transposed else output)[0, 0].numel()
        flop += 2 * places * weight.numel()
        kept = output[:, :, 1:-2, 1:-2] if transposed else output
        values += inputs[0].numel() + kept.numel()
        weights += weight.numel()

    with torch.device("meta"):
        unet, patch = UNet(spec).eval(), torch.empty((1, spec.channels, spec.patch_frames, spec.bins))
    for module in unet.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        unet(patch)
    return Work(flop, values, weights)


def unet_work(setup: Setup) -> Values:
    """Return the work of one U-Net for one patch, and the seconds of audio of a patch."""
    work, spec = work_of(setup.spec), setup.spec
    return {
        "gflop": work.flop / 1e9,
        "least_mb_float32": work.bytes(1, 4) / 1e6,
        "patch_s": spec.patch_samples / spec.sample_rate_hz,
    }
