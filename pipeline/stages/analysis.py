"""Analysis of stems for the index: level second by second, where it is active, how wide it is.

Separate takes sums of each part on its device, and they travel with the part's row; the columns come from the sums of all parts
of a track. So a track of several parts has the columns that it would have in one.

Torch is imported where it is needed: Write does without it.
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
    """Sums of squares of one part's stems, taken piece by piece.

    They are of windows that lie side by side from the start of the track; of the first and the last one a part may have a share.
    """

    def __init__(self, settings: Settings, *, begin: int, samples: int) -> None:
        """Begin a part.

        Args:
            settings: For stems and rate.
            begin: Samples of the track before the part.
            samples: Number of samples of the part, a channel.
        """
        self._window = activity.window_samples(settings.spec.sample_rate_hz)
        self._place, self._first = begin, begin // self._window
        count = -(-(begin + samples) // self._window) - self._first
        self._windows = np.zeros((len(settings.stems), count + 2))  # with one before and one after, of which pieces have nothing
        self._sides = np.zeros(len(settings.stems))

    def add(self, wave: Tensor) -> None:
        """Take the next piece: (stems, 2, samples) float32."""
        import torch

        begun = -(-self._place // self._window)  # windows, where the piece begins
        side = wave[:, :1] - wave[:, 1:]
        norms = torch.cat([self._norms(wave), self._norms(side)], dim=1).cpu().numpy()  # (stems, 3, windows)
        squares = norms.astype(np.float64) ** 2
        place = begun - self._first
        self._windows[:, place : place + squares.shape[-1]] += squares[:, :-1].sum(axis=1)
        self._sides += squares[:, -1].sum(axis=-1) / 2
        self._place += wave.shape[-1]

    def _norms(self, wave: Tensor) -> Tensor:
        """Return each channel's norm in the window begun before the piece, in the whole ones in it, and in what is left."""
        import torch

        head = min(-self._place % self._window, wave.shape[-1])
        count = (wave.shape[-1] - head) // self._window
        first, whole, last = wave.tensor_split((head, head + count * self._window), dim=-1)
        shares = (first[..., None, :], whole.unflatten(-1, (count, self._window)), last[..., None, :])
        return torch.cat([torch.linalg.vector_norm(share, dim=-1) for share in shares], dim=-1)  # over one dimension: fast

    def rows(self) -> list[dict[str, Any]]:
        """Return them as a part's row has them, a stem each."""
        return [{"windows": windows, "side": side} for windows, side in zip(self._windows[:, 1:-1], self._sides, strict=True)]


def of_parts(parts: Sequence[pa.Table], place: int, settings: Settings) -> dict[str, Any]:
    """Return what the index tells of how a stem sounds: levels_dbfs, active_ratio, active_regions, width.

    Args:
        parts: The rows of all parts of a track, in order.
        place: The stem's among the settings'.
        settings: For rate and channels.

    Returns:
        Nothing where the parts have no sums: nobody asked for them.
    """
    sums = [value(part, "sums") for part in parts]
    if None in sums:
        return {}
    spec, last = settings.spec, parts[-1]
    samples, window = value(last, "begin") + value(last, "samples"), activity.window_samples(spec.sample_rate_hz)
    energies = np.zeros(-(-samples // window))
    for part, of_stems in zip(parts, sums, strict=True):
        first, windows = value(part, "begin") // window, of_stems[place]["windows"]
        energies[first : first + len(windows)] += windows
    side = sum(of_stems[place]["side"] for of_stems in sums)
    active = activity.of_energies(energies, samples, channels=spec.channels, rate_hz=spec.sample_rate_hz)
    return {
        "levels_dbfs": activity.levels(energies, samples, channels=spec.channels, rate_hz=spec.sample_rate_hz),
        "active_ratio": active.ratio,
        "active_regions": [{"start_s": start, "end_s": end} for start, end in active.regions],
        "width": min(side / energies.sum(), 1.0) if energies.any() else None,  # rounding may make more of it
    }
