"""A wave that comes in pieces, cut at positions that never go back: no more of it is held than is cut at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sep_batch.pipeline import errors

LAST_SAMPLES = 2048  # that a lossy or resampled stem may lack at its end; they become zeros


class Forward:
    """A wave that comes in pieces, and is cut at positions that never go back."""

    def __init__(self, pieces: Iterator[np.ndarray], begin: int) -> None:
        """Take the pieces, (channels, n) each, and the position of their first sample."""
        self._pieces, self._held, self._position = pieces, list[np.ndarray](), begin

    def cut(self, begin: int, samples: int) -> np.ndarray:
        """Return `samples` samples from `begin` on, with zeros if the wave ends a little early.

        Raises:
            DecodeError: It ends more than `LAST_SAMPLES` early.
        """
        end = self._position + sum(piece.shape[1] for piece in self._held)
        while end < begin + samples and (piece := next(self._pieces, None)) is not None:
            self._held.append(piece)
            end += piece.shape[1]
            self._drop(begin)
        missing = max(0, begin + samples - end)
        if missing > LAST_SAMPLES:
            raise errors.DecodeError(f"ends after {end} samples, expected at least {begin + samples}")
        self._drop(begin)
        wave = np.concatenate([*self._held, np.zeros((2, missing), np.float32)], axis=1)
        return wave[:, begin - self._position : begin - self._position + samples]

    def _drop(self, begin: int) -> None:
        """Release the pieces that lie wholly before a position."""
        while self._held and self._position + self._held[0].shape[1] <= begin:
            self._position += self._held.pop(0).shape[1]
