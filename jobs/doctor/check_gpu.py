"""Checks of `doctor`: torch, the GPU driver, and each GPU."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

from sep_batch.jobs.setup.check import Check, first_line, note, wrong

DRIVER = Path("/proc/driver/nvidia")
TOLERANCE = 1e-4  # between a GPU's and the CPU's results, against the largest


def torch_build() -> Check:
    """Tell which torch this is, and whether it and torchaudio fit together."""
    try:
        import torch
        import torchaudio
    except (ImportError, OSError) as error:
        advice = "install both anew, as the README says, with constraints.txt: they must fit together"
        return wrong("torch", f"cannot be imported: {first_line(error)}", advice)
    capability = torch.backends.cpu.get_cpu_capability()
    versions = f"{torch.__version__}, torchaudio {torchaudio.__version__}, CUDA {torch.version.cuda or 'none'}, CPU {capability}"
    if platform.machine() == "x86_64" and not capability.startswith("AVX"):
        return note("torch", versions, "a CPU without AVX2: the U-Nets take several times as long on it; take another, or a GPU")
    return Check("torch", versions)


def gpus() -> Iterator[Check]:
    """Tell which GPUs torch can use, and whether each computes what the CPU does."""
    import torch

    listed, driver, cuda = _driver()
    if torch.cuda.is_available():
        yield Check("driver", f"{driver or 'unknown'}, for CUDA up to {_dotted(cuda)}; torch is built for {torch.version.cuda}")
        yield from (_gpu(number) for number in range(torch.cuda.device_count()))
    elif not listed and cuda is None:
        yield Check("GPU", "none: the U-Nets run on the CPU")
    else:
        description = f"driver {driver or 'unknown'} (CUDA {_dotted(cuda)}) with {listed} GPUs, of which torch can use none"
        yield wrong("GPU", f"{description}: {_why_no_cuda()}", _cuda_advice(cuda))


def _gpu(number: int) -> Check:
    import torch

    name = f"GPU {number}"
    try:
        about = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        description = (
            f"{about.name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free, compute capability {about.major}.{about.minor}"
        )
        off = computed_off(f"cuda:{number}")
    except RuntimeError as error:
        built = ", ".join(torch.cuda.get_arch_list())
        return wrong(name, f"does not compute: {first_line(error)}", f"torch is built for {built}: see nvidia-smi for the rest")
    if not off < TOLERANCE:
        return wrong(name, f"{description}: computes something else than the CPU, {off:.1e} off", "take it out of the machine")
    return Check(name, f"{description}, computes what the CPU does")


def computed_off(device: str) -> float:
    """Return how far a small convolution and Fourier transform on a device are off the CPU's, against the largest value."""
    import torch

    wave = torch.arange(2.0 * 64 * 64).remainder(7).reshape(1, 2, 64, 64)  # small whole numbers, which TF32 holds exactly
    kernel = torch.arange(4.0 * 2 * 5 * 5).remainder(5).sub(2).reshape(4, 2, 5, 5)

    def compute(place: str) -> torch.Tensor:
        spread = torch.nn.functional.conv2d(wave.to(place), kernel.to(place), padding=2)
        return torch.view_as_real(torch.fft.rfft(spread)).cpu()

    here, there = compute("cpu"), compute(device)
    return float((here - there).abs().max() / here.abs().max())


def _driver() -> tuple[int, str | None, int | None]:
    """Return how many GPUs the driver lists, its version, and the newest CUDA that it runs, as 13000."""
    about = DRIVER / "version"
    match = re.search(r"Kernel Module\D*([\d.]+)", about.read_text()) if about.exists() else None
    version = ctypes.c_int(0)
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        version = ctypes.c_int(0)
    return len(list((DRIVER / "gpus").glob("*"))), match[1] if match else None, version.value or None


def _dotted(cuda: int | None) -> str:
    return f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "unknown"


def _why_no_cuda() -> str:
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return first_line(error)
    return "torch says nothing of why"


def _cuda_advice(cuda: int | None) -> str:
    import torch

    built = torch.version.cuda
    if built is None:
        return "this torch is built without CUDA: install PyPI's, with constraints.txt"
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}: unset it, or name GPUs that are there"
    if cuda is None:
        return "libcuda.so.1 is not here: in a container, docker run --gpus all with NVIDIA's container toolkit"
    if cuda // 1000 < int(built.partition(".")[0]):
        return f"bring a driver for CUDA {built} or later, or a torch that is built for CUDA {_dotted(cuda)} or earlier"
    return "see what nvidia-smi says; after an update of the driver the machine has to be restarted"
