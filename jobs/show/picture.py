"""The picture of a track: a spectrogram of the mix and of each stem, below each other, with its level and active regions."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sep_batch.model.pitch_spectrogram import LOW_HZ, ROWS, TOP_HZ
from sep_batch.pipeline import errors, extras

EXTRA = "plots"
INK, PAPER, ACTIVE = "#d8e0ee", "#151b26", "#6ee7b7"
TICKS_HZ = (100, 1000, 10_000)
BELOW_LOUDEST_DB = 80.0
_STYLE: Any = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK)


@dataclass(frozen=True)
class Panel:
    """One wave of the picture.

    Attributes:
        title: Its name and facts.
        levels_db: As `PitchSpectrogram.levels_db` returns them.
        regions: Begin and end of its active regions, in seconds.
    """

    title: str
    levels_db: np.ndarray
    regions: Sequence[tuple[float, float]] = ()


def require_matplotlib() -> None:
    """Refuse a picture that cannot be drawn.

    Raises:
        NotRunnableError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise errors.NotRunnableError(f"show: needs the package matplotlib; {extras.to_install(EXTRA)}")


def draw(title: str, panels: Sequence[Panel], *, seconds: float, rate_hz: int) -> bytes:
    """Return the picture as a PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    loudest = max(float(panel.levels_db.max()) for panel in panels)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(12, 0.9 + 1.9 * len(panels)), dpi=100, layout="constrained", facecolor=PAPER)
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
        for axes, panel in zip(figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels, strict=True):
            axes.set_title(panel.title, fontsize=11, loc="left")
            axes.imshow(
                panel.levels_db,
                origin="lower",
                aspect="auto",
                extent=(0, seconds, 0, ROWS),
                cmap="magma",
                vmin=loudest - BELOW_LOUDEST_DB,
                vmax=loudest,
            )
            top = min(TOP_HZ, rate_hz / 2)
            ticks = {hz: ROWS * np.log(hz / LOW_HZ) / np.log(top / LOW_HZ) for hz in TICKS_HZ if hz < top}
            axes.set_yticks(list(ticks.values()), [f"{hz / 1000:g} kHz" for hz in ticks])
            axes.broken_barh([(begin, end - begin) for begin, end in panel.regions], (0, ROWS / 40), color=ACTIVE)
        axes.set_xlabel("seconds; green: the stem is active" if any(panel.regions for panel in panels) else "seconds")
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def facts(stem: Mapping[str, float | None]) -> str:
    """Return the facts of a stem's entry in the index, in a few words; of silence: silent."""
    if stem["peak_dbfs"] is None:
        return "silent"
    loudness = "" if stem["lufs"] is None else f"{stem['lufs']:.1f} LUFS, "
    active = "" if stem["active_ratio"] is None else f", active {stem['active_ratio']:.0%}"
    clipped = f", {stem['clipped_samples']:,} samples clipped" if stem["clipped_samples"] else ""
    return f"{loudness}peak {stem['peak_dbfs']:.1f} dBFS{active}{clipped}"
