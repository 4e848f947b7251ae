"""Analysis of stems for the index: level of each second, active regions, stereo width.

Separate computes sums of each part on its device, and they travel with the part's row; the columns are computed from the sums of
all parts of a track. So a track of several parts has the same columns as in one part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sep_batch.pipeline.audio import activity
from sep_batch.pipeline.rows import value
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import windows
from sep_batch.pipeline.stages.windows import WindowSums

if TYPE_CHECKING:
    from torch import Tensor


class Sums:
    """Sums of squares of one part's stems, added up piece by piece."""

    def __init__(self, settings: Settings, *, begin: int, samples: int) -> None:
        """Begin a part.

        Args:
            settings: Settings of the run; its stems and sample rate are used.
            begin: Samples of the track before the part.
            samples: Samples per channel of the part.
        """
        window, stems = activity.window_samples(settings.spec.sample_rate_hz), len(settings.written_stems)
        self._windows = WindowSums(window, stems=stems, begin=begin, samples=samples)
        self._sides = np.zeros(stems)

    def add(self, wave: Tensor) -> None:
        """Add the next piece: (stems, 2, samples) float32."""
        self._sides += self._windows.add(wave, wave[:, 0] - wave[:, 1])[:, 0] / 2

    def rows(self) -> list[dict[str, Any]]:
        """Return the sums as a part's row holds them, one entry per stem."""
        return [{"windows": own, "side": side} for own, side in zip(self._windows.sums, self._sides, strict=True)]


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
    own = ((value(part, "begin"), of_part[stem_number]["windows"]) for part, of_part in zip(parts, sums, strict=True))
    energies = windows.joined(own, window, samples)
    side = sum(part_sums[stem_number]["side"] for part_sums in sums)
    active = activity.of_energies(energies, samples, channels=spec.channels, rate_hz=spec.sample_rate_hz)
    return {
        "levels_dbfs": activity.levels(energies, samples, channels=spec.channels, rate_hz=spec.sample_rate_hz),
        "active_ratio": active.ratio,
        "active_regions": [{"start_s": start, "end_s": end} for start, end in active.regions],
        "width": min(side / energies.sum(), 1.0) if energies.any() else None,  # rounding may exceed 1
    }
