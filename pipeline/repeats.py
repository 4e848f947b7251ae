"""Possible repeats among millions of texts, by hashes of 8 bytes, so that only few are compared in full."""

from __future__ import annotations

import numpy as np


def repeated(hashes: np.ndarray) -> np.ndarray:
    """Tell of each hash whether another is equal to it.

    Args:
        hashes: (texts,) int64, as Python's `hash` gives them: of equal texts equal, of others hardly ever.

    Returns:
        (texts,) bool; the first of equal ones is told too.
    """
    ordered = np.sort(hashes)
    return np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])
