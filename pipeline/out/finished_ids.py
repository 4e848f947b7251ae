"""Ids of the tracks that finished in a pass, in 16 bytes each; the other tracks of its plan were lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from sep_batch.pipeline.out.plan import read_plans

_BYTES = 16  # among 10 million ids, two share a digest once in 10^24 catalogs


class FinishedIds:
    """Digests of the ids of finished tracks."""

    def __init__(self) -> None:
        self._digests = bytearray()

    def __len__(self) -> int:
        """Return the number of ids added."""
        return len(self._digests) // _BYTES

    def add(self, ids: Iterable[str]) -> None:
        """Add ids."""
        for id in ids:
            self._digests += _digest(id)

    @property
    def distinct(self) -> int:
        """Number of different ids added."""
        return len(self._distinct())

    def lost(self, plan: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the tracks of a plan's files whose ids were not added.

        Args:
            plan: URIs of the files.
        """
        digests = self._distinct()
        for block in read_plans(plan):
            ids = np.frombuffer(b"".join(map(_digest, block.column("id").to_pylist())), digests.dtype)
            nearest = digests[np.searchsorted(digests, ids).clip(max=len(digests) - 1)] if len(digests) else np.zeros_like(ids)
            if lost := block.filter(pa.array(nearest != ids)):
                yield lost

    def _distinct(self) -> np.ndarray:
        return np.unique(np.frombuffer(self._digests, f"S{_BYTES}"))


def _digest(id: str) -> bytes:
    return hashlib.blake2b(id.encode(), digest_size=_BYTES).digest()
