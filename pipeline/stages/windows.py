"""Sums of squares over windows that lie side by side from the start of a track."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def joined(parts: Iterable[tuple[int, Sequence[float]]], window: int, samples: int) -> np.ndarray:
    """Return the sums of a whole track, by window.

    Args:
        parts: For each part, the samples of the track before it, and its sums by window.
        window: Samples in a window.
        samples: Samples per channel of the track.
    """
    sums = np.zeros(-(-samples // window))
    for begin, own in parts:
        first = begin // window
        sums[first : first + len(own)] += own
    return sums


class WindowSums:
    """Sums of squares of one part's stems by window, added up piece by piece; the first and last may be incomplete."""

    def __init__(self, window: int, *, stems: int, begin: int, samples: int) -> None:
        """Begin a part.

        Args:
            window: Samples in a window.
            stems: Number of stems.
            begin: Samples of the track before the part.
            samples: Samples per channel of the part.
        """
        self._window, self._position, self._first = window, begin, begin // window
        count = -(-(begin + samples) // window) - self._first
        self._sums = np.zeros((stems, count + 2))  # with one more at each end, to which pieces add 0

    @property
    def sums(self) -> np.ndarray:
        """The sums over all channels, (stems, windows)."""
        return self._sums[:, 1:-1]

    def add(self, wave: Tensor, *others: Tensor) -> np.ndarray:
        """Add the next piece, (stems, channels, samples).

        Returns:
            Sums of squares of each of the other waves, (stems, samples) each, over the piece: (stems, others).
        """
        import torch

        begun = -(-self._position // self._window)  # windows begun before the piece
        norms = self._norms(torch.cat([wave, *(other[:, None] for other in others)], dim=1) if others else wave).cpu().numpy()
        squares = norms.astype(np.float64) ** 2  # (stems, channels, windows)
        channels, first = wave.shape[1], begun - self._first
        self._sums[:, first : first + squares.shape[-1]] += squares[:, :channels].sum(axis=1)
        self._position += wave.shape[-1]
        return np.asarray(squares[:, channels:].sum(axis=-1))

    def _norms(self, wave: Tensor) -> Tensor:
        """Return each channel's norm in the window begun before the piece, in the piece's whole windows, and behind them."""
        import torch

        head = min(-self._position % self._window, wave.shape[-1])
        count = (wave.shape[-1] - head) // self._window
        first, whole, last = wave.tensor_split((head, head + count * self._window), dim=-1)
        shares = (first[..., None, :], whole.unflatten(-1, (count, self._window)), last[..., None, :])
        return torch.cat([torch.linalg.vector_norm(share, dim=-1) for share in shares], dim=-1)  # one dimension is fast
