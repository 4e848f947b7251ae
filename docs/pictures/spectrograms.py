"""Draw separation.png: one synthesised song and what spleeter:2stems makes of it, as spectrograms side by side.

Needs the extra `pictures`; `make pictures` runs it.
"""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sep_batch.jobs.demo.synthesis import song
from sep_batch.model.separator import Separator
from sep_batch.pipeline import storage

PICTURE = Path(__file__).parent / "separation.png"
SEEDS = (3, 4, 6)  # the first is drawn
SECONDS = 10.0
RATE_HZ = 44_100
LOW_HZ, TOP_HZ = 100, 11_000  # top: what the U-Nets see
TICKS_KHZ = (0.1, 0.2, 0.5, 1, 2, 5, 10)
FRAME, HOP, ROWS = 4096, 1024, 288  # samples; rows of a spectrogram, evenly spaced in pitch
FLOOR_DB, TOP_DB = -60, -6  # below the mix's loudest bin
LEVELS = 28  # colours between floor and top
INK, PAPER = "#d8e0ee", "#151b26"  # those of terminal.svg
SIGNS = ("→", "+")


def sdr_db(truth: np.ndarray, estimate: np.ndarray) -> float:
    """Return the signal-to-distortion ratio of a whole stem, plain energies, no allowed filters."""
    return float(10 * np.log10(np.square(truth).sum() / np.square(truth - estimate).sum()))


def spectrogram(wave: np.ndarray) -> np.ndarray:
    """Return the mid channel's magnitudes from `LOW_HZ` to `TOP_HZ` in dB, (rows, frames)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave.mean(axis=0), FRAME)[::HOP]
    magnitude = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)) + 1e-9)
    bins = np.geomspace(LOW_HZ, TOP_HZ, ROWS) * FRAME / RATE_HZ
    return np.array([np.interp(bins, np.arange(magnitude.shape[1]), frame) for frame in magnitude]).T


def draw(waves: dict[str, np.ndarray]) -> bytes:
    """Return the spectrograms side by side as a PNG of few colours, so that it stays small."""
    pictures = {name: spectrogram(wave) for name, wave in waves.items()}
    loudest = max(picture.max() for picture in pictures.values())
    figure = Figure(figsize=(12, 3.6), dpi=100, layout="constrained", facecolor=PAPER)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    panels = figure.subplots(1, len(pictures), sharey=True)
    for axes, (name, picture) in zip(panels, pictures.items(), strict=True):
        axes.set_title(name, fontsize=15, pad=8)
        axes.set_xlabel("seconds")
        image = axes.imshow(
            picture - loudest,
            origin="lower",
            aspect="auto",
            extent=(0, SECONDS, 0, ROWS),
            cmap=mpl.colormaps["magma"].resampled(LEVELS),
            vmin=FLOOR_DB,
            vmax=TOP_DB,
        )
    heights = ROWS * np.log(np.array(TICKS_KHZ) * 1000 / LOW_HZ) / np.log(TOP_HZ / LOW_HZ)
    panels[0].set_yticks(heights, [f"{tick:g}" for tick in TICKS_KHZ])
    panels[0].set_ylabel("kHz")
    for sign, axes in zip(SIGNS, panels[1:], strict=True):
        axes.annotate(sign, (-0.06, 1.035), xycoords="axes fraction", fontsize=17, ha="center")
    figure.colorbar(image, ax=panels, label="dB", pad=0.01, aspect=30).outline.set_visible(False)
    drawn, out = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()


def main() -> None:
    """Draw the first song, and print how well each was separated."""
    mpl.rcParams |= {"font.size": 12, **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)}
    mpl.rcParams |= {f"axes.spines.{side}": False for side in ("top", "right", "left", "bottom")}
    separator = Separator.load("spleeter:2stems")
    for seed in SEEDS:
        truth = song(seed, SECONDS, RATE_HZ)
        mix = truth["vocals"] + truth["accompaniment"]
        stems = {name: wave.numpy() for name, wave in separator.separate(mix).items()}
        ratios = (f"{name} {sdr_db(wave, stems[name]):.1f} dB (mix: {sdr_db(wave, mix):.1f})" for name, wave in truth.items())
        print(f"seed {seed}: SDR " + ", ".join(ratios))
        if seed == SEEDS[0]:
            storage.put(str(PICTURE), draw({"mix": mix, **stems}))


if __name__ == "__main__":
    main()
