"""A picture of the distribution of SDR over tracks, a box and a point per track for each stem."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sep_batch.jobs.evaluate import statistics
from sep_batch.pipeline import errors, extras

EXTRA = "plots"
_SPREAD = 0.12  # of the points of a stem, in widths of its row


def require_matplotlib() -> None:
    """Refuse a picture that cannot be drawn.

    Raises:
        NotRunnableError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise errors.NotRunnableError(f"--png: needs the package matplotlib; {extras.to_install(EXTRA)}")


def draw(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the SDR of each stem as a PNG; infinite values are left out."""
    from matplotlib.figure import Figure

    by_stem = {stem: statistics.values_of(rows, stem, "sdr").values() for stem in statistics.stems_of(rows)}
    finite = {stem: [value for value in values if math.isfinite(value)] for stem, values in by_stem.items()}
    values = {stem: numbers for stem, numbers in finite.items() if numbers}
    figure = Figure(figsize=(8, 1.2 + 0.7 * max(1, len(values))), dpi=150, layout="constrained")
    axes = figure.subplots()
    names = [f"{stem} ({len(numbers)})" for stem, numbers in values.items()]
    if values:
        axes.boxplot(list(values.values()), orientation="horizontal", tick_labels=names, widths=0.5, showfliers=False)
    spread = np.random.default_rng(0)
    for number, numbers in enumerate(values.values(), 1):
        heights = number + spread.uniform(-_SPREAD, _SPREAD, len(numbers))
        axes.plot(numbers, heights, ".", alpha=0.5)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("SDR in dB; in brackets the number of tracks")
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()
