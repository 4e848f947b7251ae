"""The split of a track, by a hash of its group and the seed. No group is in two splits, and new tracks move no others."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import accumulate

from sep_batch.pipeline import errors

NAMES = (("train",), ("train", "test"), ("train", "validation", "test"))  # of one, two and three shares
_SUM_SLACK = 1e-6


def shares(text: str) -> dict[str, float]:
    """Parse shares, as 0.98/0.01/0.01 for train, validation and test; two shares are for train and test.

    Raises:
        UsageError: They are invalid, or do not sum to 1.
    """
    try:
        values = [float(share) for share in text.split("/")]
    except ValueError:
        values = []
    if not 1 <= len(values) <= len(NAMES) or min(values) < 0 or not math.isclose(sum(values), 1, abs_tol=_SUM_SLACK):
        raise errors.UsageError(f"--split {text}: expected one to three shares that sum to 1, as 0.98/0.01/0.01")
    return dict(zip(NAMES[len(values) - 1], values, strict=True))


def group_of(name: str, group: str | None) -> str:
    """Return the group of a track; a track without one is a group of its own.

    Args:
        name: The track's id.
        group: Value of the group's column, as text; None is no group.
    """
    return f"group {group}" if group and group.strip() else f"track {name}"


def split_of(group: str, seed: int, bounds: Sequence[tuple[str, float]]) -> str:
    """Return a group's split.

    Args:
        group: As `group_of` gives it.
        seed: Seed of the export.
        bounds: For each split its name and the sum of the shares up to it, as `bounds_of` gives them.
    """
    drawn = int.from_bytes(hashlib.sha256(f"{seed} {group}".encode()).digest()[:8]) / 2**64
    return next((name for name, bound in bounds if drawn < bound), bounds[-1][0])


def bounds_of(shares: dict[str, float]) -> list[tuple[str, float]]:
    """Return for each split with a share its name and the sum of the shares up to it."""
    return [(name, bound) for name, bound in zip(shares, accumulate(shares.values()), strict=True) if shares[name]]
