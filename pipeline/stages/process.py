"""The process of a stage: threads and memory."""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's mallopt parameters
_MAPPED_FROM_BYTES = 64 << 20  # a track's arrays; a patch's are smaller, and are kept
_KEPT_BYTES = 512 << 20


def prepare_torch() -> None:
    """Have torch use this thread alone, and a patch's memory kept: mapping it anew for every patch cost a quarter of the time."""
    import torch

    torch.set_num_threads(1)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
