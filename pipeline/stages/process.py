"""The process of a stage: threads and memory."""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's mallopt parameters
_MAPPED_FROM_BYTES = 64 << 20  # arrays of a whole track; those of a patch are smaller, and their memory is reused
_KEPT_BYTES = 512 << 20


def prepare_torch() -> None:
    """Restrict torch to this thread, and reuse the memory of patches: mapping it anew each time took a quarter of the time."""
    import torch

    torch.set_num_threads(1)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
