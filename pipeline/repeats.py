"""Possible duplicates among millions of texts, by 8-byte hashes, so that only those are compared in full."""

from __future__ import annotations

import numpy as np


def repeated(hashes: np.ndarray) -> np.ndarray:
    """Mark the hashes that occur more than once.

    Args:
        hashes: (texts,) int64 from Python's `hash`: equal for equal texts, hardly ever for others.

    Returns:
        (texts,) bool, True for every occurrence, the first one included.
    """
    ordered = np.sort(hashes)
    return np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])
