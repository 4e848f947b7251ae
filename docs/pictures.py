"""Draw docs/pictures: one synthesised song and what spleeter:2stems makes of it, as spectrograms.

Needs the extra `docs`: pip install -e '.[docs]' && python docs/pictures.py
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

FOLDER = Path(__file__).parent / "pictures"
SEEDS = (3, 4, 6)  # the first is drawn
SECONDS = 10.0
RATE_HZ = 44_100
TOP_HZ = 11_000  # what the U-Nets see
FRAME, HOP = 2048, 512  # samples
FLOOR_DB, TOP_DB = -72, -6  # below the mix's loudest bin
LEVELS = 33  # colours between floor and top
TITLES = {
    "mix": "The mix",
    "vocals": "Separated: vocals",
    "accompaniment": "Separated: accompaniment",
}


def sdr_db(truth: np.ndarray, estimate: np.ndarray) -> float:
    """Return the signal-to-distortion ratio of a whole stem, plain energies, no allowed filters."""
    return float(10 * np.log10(np.square(truth).sum() / np.square(truth - estimate).sum()))


def spectrogram(wave: np.ndarray) -> np.ndarray:
    """Return the mid channel's magnitudes up to `TOP_HZ` in dB, (bins, frames)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave.mean(axis=0), FRAME)[::HOP]
    magnitude = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=1)).T
    return 20 * np.log10(magnitude[: TOP_HZ * FRAME // RATE_HZ] + 1e-9)


def draw(picture: np.ndarray, title: str, path: Path) -> None:
    """Write a spectrogram as a PNG of few colours, so that it stays small."""
    figure = Figure(figsize=(9, 3.5), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="seconds", ylabel="kHz")
    axes.set_title(title, loc="left")
    extent = (0, SECONDS, 0, TOP_HZ / 1000)
    image = axes.imshow(
        picture,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap=mpl.colormaps["magma"].resampled(LEVELS),
        vmin=FLOOR_DB,
        vmax=TOP_DB,
    )
    figure.colorbar(image, label="dB", pad=0.01)
    drawn, out = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(2 * LEVELS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        out, "PNG", optimize=True
    )
    storage.put(str(path), out.getvalue())


def main() -> None:
    """Draw the first song, and print how well each was separated."""
    mpl.rcParams |= {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    separator = Separator.load("spleeter:2stems")
    for seed in SEEDS:
        truth = song(seed, SECONDS, RATE_HZ)
        mix = truth["vocals"] + truth["accompaniment"]
        found = {name: wave.numpy() for name, wave in separator.separate(mix).items()}
        ratios = (f"{name} {sdr_db(wave, found[name]):.1f} dB (mix: {sdr_db(wave, mix):.1f})" for name, wave in truth.items())
        print(f"seed {seed}: SDR " + ", ".join(ratios))
        if seed == SEEDS[0]:
            loudest = spectrogram(mix).max()
            for name, wave in {"mix": mix, **found}.items():
                draw(spectrogram(wave) - loudest, TITLES[name], FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
