"""Loudness, by FFmpeg's meter."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

SILENCE_LUFS = -70.0  # the meter's absolute gate, its result where nothing passed


class Loudness:
    """Measures integrated loudness with FFmpeg's meter, block by block.

    Source: EBU R 128, ITU-R BS.1770.
    """

    def __init__(self, rate_hz: int) -> None:
        self._graph, self._rate_hz, self._position = av.filter.Graph(), rate_hz, 0
        source = self._graph.add_abuffer(format="fltp", sample_rate=rate_hz, layout="stereo", time_base=Fraction(1, rate_hz))
        meter, sink = self._graph.add("ebur128", "metadata=1"), self._graph.add("abuffersink")
        source.link_to(meter)
        meter.link_to(sink)
        self._graph.configure()
        self._loudness = -math.inf

    def add(self, wave: np.ndarray) -> None:
        """Measure the next samples: (2, samples) float32."""
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = self._rate_hz, self._position
        self._position += wave.shape[1]
        self._graph.push(frame)
        self._pull()

    def lufs(self) -> float | None:
        """End the wave, and return its loudness in LUFS; None below 0.4 s or in silence."""
        self._graph.push(None)
        self._pull()
        return self._loudness if self._position >= 0.4 * self._rate_hz and self._loudness > SILENCE_LUFS else None

    def _pull(self) -> None:
        while True:
            try:
                frame: Any = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._loudness = float(frame.metadata.get("lavfi.r128.I", self._loudness))
