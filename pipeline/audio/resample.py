"""Sample rate conversion, block by block; the samples do not depend on how the wave is cut into blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np

_FILTER = "filter_size=128:cutoff=0.97:filter_type=kaiser:kaiser_beta=10"  # a windowed sinc of 128 zero crossings
_TAIL = 512  # zeros at the end, in samples of the lower rate: more than the filter's length


def resampled(samples: int, from_hz: int, to_hz: int) -> int:
    """Return the number of samples of a wave at another sample rate."""
    return math.ceil(Fraction(samples * to_hz, from_hz))


class Resampler:
    """Converts a wave from one sample rate to another, from its first sample to its last."""

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        self._from_hz, self._to_hz, self._channels, self._taken, self._returned = from_hz, to_hz, channels, 0, 0
        self._layout = "stereo" if channels == 2 else "mono"
        self._graph = av.filter.Graph()
        form = {"sample_rate": from_hz, "layout": self._layout, "time_base": Fraction(1, from_hz)}
        source = self._graph.add_abuffer(format="fltp", **form)
        filtered, sink = self._graph.add("aresample", f"{to_hz}:{_FILTER}"), self._graph.add("abuffersink")
        source.link_to(filtered)
        filtered.link_to(sink)
        self._graph.configure()

    def through(self, waves: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield a whole wave piece by piece, without empty pieces."""
        for wave in waves:
            if (converted := self.add(wave)).size:
                yield converted
        if (last := self.end()).size:
            yield last

    def add(self, wave: np.ndarray) -> np.ndarray:
        """Take the next samples, (channels, samples) float32, and return the converted ones that are complete."""
        if self._from_hz == self._to_hz:
            return wave
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts = self._from_hz, self._taken
        self._taken += wave.shape[1]
        self._graph.push(frame)
        converted = self._pull()
        self._returned += converted.shape[1]
        return converted

    def end(self) -> np.ndarray:
        """Return the last samples."""
        if self._from_hz == self._to_hz:
            return np.empty((self._channels, 0), np.float32)
        left = resampled(self._taken, self._from_hz, self._to_hz) - self._returned
        zeros = math.ceil(_TAIL * max(1, self._from_hz / self._to_hz))
        pieces = [self.add(np.zeros((self._channels, zeros), np.float32))]
        self._graph.push(None)
        return np.concatenate([*pieces, self._pull()], axis=1)[:, :left]

    def _pull(self) -> np.ndarray:
        pieces = [np.empty((self._channels, 0), np.float32)]
        while True:
            try:
                frame: Any = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return np.concatenate(pieces, axis=1)
            pieces.append(frame.to_ndarray())
