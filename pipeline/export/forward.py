"""A wave that comes in pieces, cut at places that never go back: no more of it is held than is cut at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sep_batch.pipeline import errors

LAST_SAMPLES = 2048  # by which a lossy stem, or a resampled one, may end early; they are made zeros


class Forward:
    """A wave that comes in pieces, and is cut at places that never go back."""

    def __init__(self, pieces: Iterator[np.ndarray], begin: int) -> None:
        """Take the pieces, (channels, n) each, and the place of their first sample."""
        self._pieces, self._held, self._place = pieces, list[np.ndarray](), begin

    def cut(self, begin: int, samples: int) -> np.ndarray:
        """Return so many samples from `begin` on; where the wave ends a little early, with zeros.

        Raises:
            DecodeError: It ends much too early.
        """
        place = self._place + sum(piece.shape[1] for piece in self._held)
        while place < begin + samples and (piece := next(self._pieces, None)) is not None:
            self._held.append(piece)
            place += piece.shape[1]
            self._drop(begin)
        missing = max(0, begin + samples - place)
        if missing > LAST_SAMPLES:
            raise errors.DecodeError(f"ends after {place} samples, expected at least {begin + samples}")
        self._drop(begin)
        wave = np.concatenate([*self._held, np.zeros((2, missing), np.float32)], axis=1)
        return wave[:, begin - self._place : begin - self._place + samples]

    def _drop(self, begin: int) -> None:
        """Let go of the pieces that lie wholly before a place."""
        while self._held and self._place + self._held[0].shape[1] <= begin:
            self._place += self._held.pop(0).shape[1]
