"""The result of a separation: waves by stem name. A notebook shows them as players and spectrograms."""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
from torch import Tensor

from sep_batch.model.pitch_spectrogram import FLOOR_DB, PitchSpectrogram

SHOWN_S = 60  # of each stem: a notebook keeps them as text
_FULL_SCALE = 32768  # of 16 bits
_PLAYER = """<figure style="margin: 0.5em 0; max-width: 48em"><figcaption>{name}{note}</figcaption>{picture}
<audio controls preload="metadata" aria-label="{name}" style="width: 100%" src="data:audio/wav;base64,{wav}"></audio></figure>"""
_PICTURE = """<img alt="Spectrogram of {name}" style="width: 100%; height: 6em; display: block; image-rendering: auto"
src="data:image/png;base64,{png}">"""


class Stems(dict[str, Tensor]):
    """Waves by stem name, (channels, samples) each.

    Attributes:
        rate_hz: Sample rate of the waves.
    """

    def __init__(self, waves: Mapping[str, Tensor], rate_hz: int) -> None:
        """Hold the waves."""
        super().__init__(waves)
        self.rate_hz = rate_hz

    def _repr_html_(self) -> str:
        """Return players of the first `SHOWN_S` seconds, with spectrograms if matplotlib is installed."""
        return "\n".join(self._player(html.escape(name), stem) for name, stem in self.items())

    def _player(self, name: str, stem: Tensor) -> str:
        shown = stem[:, : SHOWN_S * self.rate_hz].detach().cpu().numpy()
        seconds = stem.shape[1] / self.rate_hz
        note = f", the first {SHOWN_S} of {seconds:.0f} s" if shown.shape[1] < stem.shape[1] else ""
        picture = _PICTURE.format(name=name, png=_text(_png(shown, self.rate_hz))) if find_spec("matplotlib") else ""
        return _PLAYER.format(name=name, note=note, picture=picture, wav=_text(_wav(shown, self.rate_hz)))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _wav(samples: np.ndarray, rate_hz: int) -> bytes:
    """Return a WAV file of 16 bits."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.clip(np.round(samples.T * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes())
    return content.getvalue()


def _png(samples: np.ndarray, rate_hz: int) -> bytes:
    from matplotlib.image import imsave

    spectrogram, content = PitchSpectrogram(samples.shape[1], rate_hz), io.BytesIO()
    spectrogram.add(samples)
    levels = spectrogram.levels_db()
    loudest = max(float(levels.max()), FLOOR_DB + 80)
    imsave(content, levels, cmap="magma", origin="lower", vmin=loudest - 80, vmax=loudest, format="png")
    return content.getvalue()
