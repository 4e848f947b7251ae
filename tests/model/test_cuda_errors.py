"""Errors of CUDA by the texts that torch gives them."""

from __future__ import annotations

import pytest
import torch

from sep_batch.model.cuda_errors import is_fault, is_out_of_memory, is_unusable

KERNEL = "For debugging consider passing CUDA_LAUNCH_BLOCKING=1."
ENGINE = "GET was unable to find an engine to execute this computation"
FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError(f"CUDA error: out of memory\n{KERNEL}"),
    RuntimeError(ENGINE),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]
BROKEN = [
    torch.AcceleratorError(f"CUDA error: an illegal memory access was encountered\n{KERNEL}"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    torch.AcceleratorError("the launch timed out and was terminated"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("cuFFT error: CUFFT_EXEC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
    RuntimeError("No CUDA GPUs are available"),
]
UNUSABLE = [
    torch.AcceleratorError(f"CUDA error: no kernel image is available for execution on the device\n{KERNEL}"),
    RuntimeError("The NVIDIA driver on your system is too old (found version 11040). [...] of the CUDA driver."),
    RuntimeError("CUDA driver version is insufficient for CUDA runtime version"),
]
OURS = [
    RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"),
    RuntimeError("Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same"),
    ValueError("CUDA"),
    OSError("out of memory"),
]


@pytest.mark.parametrize("error", [*FULL, *BROKEN, *UNUSABLE, *OURS], ids=lambda error: str(error)[:40])
def test_errors_of_cuda_are_told_apart(error):
    assert is_out_of_memory(error) == (error in FULL)
    assert is_fault(error) == (error in [*FULL[1:], *BROKEN, *UNUSABLE])
    assert is_unusable(error) == (error in UNUSABLE)
