"""Errors of CUDA and its libraries, told apart by type and text: torch raises most of them as plain RuntimeErrors."""

from __future__ import annotations

import re

import torch

_OUT_OF_MEMORY = re.compile(  # what the libraries say where memory runs out that torch's allocator does not know of
    "out of memory|unable to find an engine to execute this computation|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED|"
    "CUFFT_ALLOC_FAILED|CUFFT_INTERNAL_ERROR"
)
_UNUSABLE = re.compile(
    "no kernel image is available|driver version is insufficient|driver on your system is too old|unsupported display driver"
)
_CUDA = re.compile("CUDA|cuDNN|CUDNN|cuBLAS|CUBLAS|cuFFT|CUFFT")  # not `cuda`, as in errors about a tensor's device or type


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a device ran out of memory: with a smaller batch the same call may succeed."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None
    )


def is_fault(error: BaseException) -> bool:
    """Tell whether an error is CUDA's own, other than torch's OutOfMemoryError: every later call of this process may fail too."""
    if isinstance(error, (torch.OutOfMemoryError, NotImplementedError)) or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.AcceleratorError) or _CUDA.search(str(error)) is not None or is_out_of_memory(error)


def is_unusable(error: BaseException) -> bool:
    """Tell whether the installed driver and torch cannot use this kind of GPU at all."""
    return is_fault(error) and _UNUSABLE.search(str(error)) is not None
