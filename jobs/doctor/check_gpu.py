"""Checks of `doctor`: torch, the GPU driver, and each GPU."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import version

from sep_batch.jobs.setup import machine
from sep_batch.jobs.setup.check import Check, note, wrong
from sep_batch.jobs.setup.units import data_size
from sep_batch.pipeline import errors

DRIVER = machine.DRIVER
TOLERANCE = 1e-4  # largest difference between a GPU's and the CPU's results, relative to the largest value


def torch_build() -> Check:
    """Check that torch and torchaudio can be imported together, and report their versions.

    A torchaudio whose compiled part does not fit torch's build raises OSError; torch's own STFT serves then, with the same bits.
    """
    advice = "reinstall both in matching versions, with constraints.txt as in the README"
    try:
        import torch
    except (ImportError, OSError) as error:
        return wrong("torch", f"cannot be imported: {errors.first_line(error)}", advice)
    try:
        audio_version = version("torchaudio")
        importlib.import_module("torchaudio")
    except ImportError as error:
        return wrong("torch", f"{torch.__version__}; torchaudio cannot be imported: {errors.first_line(error)}", advice)
    except OSError:
        audio_version += " (of another build; not needed)"
    capability = torch.backends.cpu.get_cpu_capability()
    versions = f"{torch.__version__}, torchaudio {audio_version}, CUDA {torch.version.cuda or 'none'}, CPU {capability}"
    if platform.machine() == "x86_64" and not capability.startswith("AVX"):
        return note("torch", versions, "without AVX2 the U-Nets take several times as long: use another CPU, or a GPU")
    return Check("torch", versions)


def gpus() -> Iterator[Check]:
    """Check that torch can use the GPUs, and that each gives the results of the CPU."""
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
            f"{about.name}, {data_size(free)} of {data_size(total)} free, compute capability {about.major}.{about.minor}"
        )
        off = computed_off(f"cuda:{number}")
    except RuntimeError as error:
        built = ", ".join(torch.cuda.get_arch_list())
        advice = f"torch is built for {built}; compare with nvidia-smi"
        return wrong(name, f"does not compute: {errors.first_line(error)}", advice)
    if not off < TOLERANCE:
        advice = "replace this GPU, or hide it with CUDA_VISIBLE_DEVICES"
        return wrong(name, f"{description}: results differ from the CPU's by {off:.1e}", advice)
    return Check(name, f"{description}, results agree with the CPU's")


def computed_off(device: str) -> float:
    """Return the difference of a small convolution and Fourier transform to the CPU's, relative to the largest value."""
    import torch

    wave = torch.arange(2.0 * 64 * 64).remainder(7).reshape(1, 2, 64, 64)  # small integers, exact in TF32
    kernel = torch.arange(4.0 * 2 * 5 * 5).remainder(5).sub(2).reshape(4, 2, 5, 5)

    def compute(target: str) -> torch.Tensor:
        convolved = torch.nn.functional.conv2d(wave.to(target), kernel.to(target), padding=2)
        return torch.view_as_real(torch.fft.rfft(convolved)).cpu()

    expected, result = compute("cpu"), compute(device)
    return float((expected - result).abs().max() / expected.abs().max())


def _driver() -> tuple[int, str | None, int | None]:
    """Return the number of GPUs that the driver lists, its version, and the newest CUDA that it supports, as 13000."""
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
        return errors.first_line(error)
    return "torch gives no reason"


def _cuda_advice(cuda: int | None) -> str:
    import torch

    built = torch.version.cuda
    if built is None:
        return "this torch is built without CUDA: install the build from PyPI, with constraints.txt"
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return f"CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}: unset it, or name existing GPUs"
    if cuda is None:
        return "libcuda.so.1 is missing: in a container, use docker run --gpus all with NVIDIA's container toolkit"
    if cuda // 1000 < int(built.partition(".")[0]):
        return f"install a driver for CUDA {built} or later, or a torch that is built for CUDA {_dotted(cuda)} or earlier"
    return "run nvidia-smi; after an update of the driver, restart the machine"
