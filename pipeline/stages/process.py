"""The process of a stage: threads and memory."""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's mallopt parameters
_MAPPED_FROM_BYTES = 36 << 20  # a stem of a whole part has 40 MB; arrays of a patch have at most 32 MB, and are reused
_KEPT_BYTES = 512 << 20


def prepare_torch() -> None:
    """Restrict torch to this thread, and reuse the memory of patches: mapping it anew each time took a quarter of the time."""
    import torch

    torch.set_num_threads(1)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def release_memory() -> None:
    """Return the memory that this process has freed to the system: between small blocks that last, glibc keeps much of it."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
