"""Ids of the tracks that came out of a pass, in 16 bytes each; the others of its plan were lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from sep_batch.pipeline.out.plan import read_plans

_BYTES = 16  # two of 10 million ids have one digest once in 10^24 catalogs


class FinishedIds:
    """The ids that were seen."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def __len__(self) -> int:
        """Return how many were added."""
        return len(self._digests) // _BYTES

    def add(self, ids: Iterable[str]) -> None:
        """Take more of them."""
        for id in ids:
            self._digests += _digest(id)

    @property
    def distinct(self) -> int:
        """How many different ones were added."""
        return len(self._known())

    def lost(self, plan: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the tracks of a plan's files that were not seen.

        Args:
            plan: The files' URIs.
        """
        known = self._known()
        for block in read_plans(plan):
            ids = np.frombuffer(b"".join(map(_digest, block.column("id").to_pylist())), known.dtype)
            nearest = known[np.searchsorted(known, ids).clip(max=len(known) - 1)] if len(known) else np.zeros_like(ids)
            if lost := block.filter(pa.array(nearest != ids)):
                yield lost

    def _known(self) -> np.ndarray:
        return np.unique(np.frombuffer(self._digests, f"S{_BYTES}"))


def _digest(id: str) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=_BYTES).digest()
