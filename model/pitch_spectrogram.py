"""Levels of a wave over time and pitch, block by block: a column for each of at most `COLUMNS` moments."""

from __future__ import annotations

import math

import numpy as np

COLUMNS, ROWS = 1200, 256
LOW_HZ, TOP_HZ = 50.0, 20_000.0
FRAME, SHORTEST_HOP = 4096, 1024  # samples
FLOOR_DB = -120.0


class PitchSpectrogram:
    """The mid channel's power in rows evenly spaced in pitch."""

    def __init__(self, samples: int, rate_hz: int) -> None:
        """Begin a wave with this number of samples per channel."""
        self._hop = max(SHORTEST_HOP, math.ceil(samples / COLUMNS))
        edges = np.geomspace(LOW_HZ, min(TOP_HZ, rate_hz / 2), ROWS + 1) * FRAME / rate_hz
        self._bins, self._firsts = edges[:-1], np.rint(edges[:-1]).astype(int)
        self._window = np.hanning(FRAME)
        self._held, self._columns, self._skip = np.zeros(FRAME // 2), list[np.ndarray](), 0

    def add(self, block: np.ndarray) -> None:
        """Add the next samples, (channels, samples)."""
        self._held = np.concatenate([self._held, block.mean(axis=0)])
        while True:
            self._held, self._skip = self._held[self._skip :], max(0, self._skip - len(self._held))
            if self._skip or len(self._held) < FRAME:
                return
            power = np.abs(np.fft.rfft(self._held[:FRAME] * self._window)) ** 2
            between = np.interp(self._bins, np.arange(len(power)), power)
            self._columns.append(np.maximum(between, np.maximum.reduceat(power, self._firsts)))  # rows of several bins
            self._skip = self._hop

    def levels_db(self) -> np.ndarray:
        """Return the levels so far, (ROWS, columns), in dB of a sine of full scale, `FLOOR_DB` at least."""
        power = np.array(self._columns or [np.zeros(ROWS)]).T / (self._window.sum() / 2) ** 2
        levels: np.ndarray = 10 * np.log10(power + 10 ** (FLOOR_DB / 10))
        return levels
