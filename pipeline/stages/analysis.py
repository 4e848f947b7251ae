"""Analysis of stems for the index: level of each second, active regions, stereo width.

Separate computes sums of each part on its device, and they travel with the part's row; the columns are computed from the sums of
all parts of a track. So a track of several parts has the same columns as in one part.

Torch is imported inside functions, since Write does not need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sep_batch.pipeline.audio import activity
from sep_batch.pipeline.rows import value
from sep_batch.pipeline.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class Sums:
    """Sums of squares of one part's stems, added up piece by piece.

    Windows lie side by side from the start of the track; a part may hold only a share of its first and last one.
    """

    def __init__(self, settings: Settings, *, begin: int, samples: int) -> None:
        """Begin a part.

        Args:
            settings: Settings of the run; its stems and sample rate are used.
            begin: Samples of the track before the part.
            samples: Samples per channel of the part.
        """
        self._window = activity.window_samples(settings.spec.sample_rate_hz)
        self._position, self._first = begin, begin // self._window
        count = -(-(begin + samples) // self._window) - self._first
        self._windows = np.zeros((len(settings.stems), count + 2))  # with one more at each end, to which pieces add 0
        self._sides = np.zeros(len(settings.stems))

    def add(self, wave: Tensor) -> None:
        """Add the next piece: (stems, 2, samples) float32."""
        import torch

        begun = -(-self._position // self._window)  # windows begun before the piece
        side = wave[:, :1] - wave[:, 1:]
        norms = torch.cat([self._norms(wave), self._norms(side)], dim=1).cpu().numpy()  # (stems, 3, windows)
        squares = norms.astype(np.float64) ** 2
        first = begun - self._first
        self._windows[:, first : first + squares.shape[-1]] += squares[:, :-1].sum(axis=1)
        self._sides += squares[:, -1].sum(axis=-1) / 2
        self._position += wave.shape[-1]

    def _norms(self, wave: Tensor) -> Tensor:
        """Return each channel's norm in the window begun before the piece, in the piece's whole windows, and behind them."""
        import torch

        head = min(-self._position % self._window, wave.shape[-1])
        count = (wave.shape[-1] - head) // self._window
        first, whole, last = wave.tensor_split((head, head + count * self._window), dim=-1)
        shares = (first[..., None, :], whole.unflatten(-1, (count, self._window)), last[..., None, :])
        return torch.cat([torch.linalg.vector_norm(share, dim=-1) for share in shares], dim=-1)  # one dimension is fast

    def rows(self) -> list[dict[str, Any]]:
        """Return the sums as a part's row holds them, one entry per stem."""
        return [{"windows": windows, "side": side} for windows, side in zip(self._windows[:, 1:-1], self._sides, strict=True)]


def of_parts(parts: Sequence[pa.Table], stem_number: int, settings: Settings) -> dict[str, Any]:
    """Return the index columns levels_dbfs, active_ratio, active_regions and width of a stem.

    Args:
        parts: Rows of all parts of a track, in order.
        stem_number: Position of the stem among the settings' stems.
        settings: Settings of the run; its sample rate and channels are used.

    Returns:
        The columns; empty where the parts have no sums, in a run without analysis.
    """
    sums = [value(part, "sums") for part in parts]
    if None in sums:
        return {}
    spec, last = settings.spec, parts[-1]
    samples, window = value(last, "begin") + value(last, "samples"), activity.window_samples(spec.sample_rate_hz)
    energies = np.zeros(-(-samples // window))
    for part, part_sums in zip(parts, sums, strict=True):
        first, windows = value(part, "begin") // window, part_sums[stem_number]["windows"]
        energies[first : first + len(windows)] += windows
    side = sum(part_sums[stem_number]["side"] for part_sums in sums)
    active = activity.of_energies(energies, samples, channels=spec.channels, rate_hz=spec.sample_rate_hz)
    return {
        "levels_dbfs": activity.levels(energies, samples, channels=spec.channels, rate_hz=spec.sample_rate_hz),
        "active_ratio": active.ratio,
        "active_regions": [{"start_s": start, "end_s": end} for start, end in active.regions],
        "width": min(side / energies.sum(), 1.0) if energies.any() else None,  # rounding may exceed 1
    }
