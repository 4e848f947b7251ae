"""Loudness of stems: energies of K-weighted windows, computed with torch on the device that separated.

The K-weighting of ITU-R BS.1770 is two second-order filters, one after the other. A recursive filter goes from sample to sample;
here it is computed in blocks, by matrix products: a block's output is its input times the impulse response, plus what the four
numbers of state at the block's start add. The states themselves follow such a recursion, and are computed in blocks of blocks.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sep_batch.pipeline.audio.loudness import window_samples
from sep_batch.pipeline.stages.windows import WindowSums

STATES = 4
SIZES = (32, 16, 16)  # samples in a block, blocks in a block of blocks, and these in the next: measured
CHUNK = 1 << 17  # samples filtered at once: they stay in the cache
_SHELF_HZ, _SHELF_DB, _SHELF_Q, _SHELF_SLOPE = 1681.974450955533, 3.999843853973347, 0.7071752369554196, 0.4996667741545416
_PASS_HZ, _PASS_Q = 38.13547087602444, 0.5003270373238773


class _Level(NamedTuple):
    """A linear recursion in blocks.

    Attributes:
        size: Steps in a block.
        outputs: (size * inputs, size * outputs), from a block's inputs to its outputs.
        from_state: (states, size * outputs), from the state at the block's start to its outputs.
        to_state: (size * inputs, states), from a block's inputs to the state at its end.
        step: (states, states), from the state at the block's start to the one at its end.
    """

    size: int
    outputs: Tensor
    from_state: Tensor
    to_state: Tensor
    step: Tensor


def _sections(rate_hz: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return numerator and denominator of both filters at a sample rate.

    Source: libebur128, whose formulas give the coefficients of BS.1770 at 48 kHz; FFmpeg's meter has the same.
    """
    k, high = math.tan(math.pi * _SHELF_HZ / rate_hz), 10 ** (_SHELF_DB / 20)
    band, a0 = high**_SHELF_SLOPE, 1 + k / _SHELF_Q + k * k
    numerator = np.array([high + band * k / _SHELF_Q + k * k, 2 * (k * k - high), high - band * k / _SHELF_Q + k * k]) / a0
    shelf = numerator, np.array([a0, 2 * (k * k - 1), 1 - k / _SHELF_Q + k * k]) / a0
    k = math.tan(math.pi * _PASS_HZ / rate_hz)
    a0 = 1 + k / _PASS_Q + k * k
    return [shelf, (np.array([1.0, -2.0, 1.0]), np.array([a0, 2 * (k * k - 1), 1 - k / _PASS_Q + k * k]) / a0)]


def _state_space(rate_hz: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return A, B, C, D of both filters in a row: s' = A s + B x, y = C s + D x.

    The coordinates are those in which white noise gives uncorrelated states of equal power, so that float32 is enough.
    """
    a, b, c, d = np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), 1.0
    for numerator, denominator in _sections(rate_hz):
        own_a = np.array([[-denominator[1], 1.0], [-denominator[2], 0.0]])  # transposed direct form II
        own_b = (numerator[1:] - denominator[1:] * numerator[0])[:, None]
        own_c, own_d = np.array([[1.0, 0.0]]), float(numerator[0])
        a = np.block([[a, np.zeros((len(a), 2))], [own_b @ c, own_a]])
        b = np.vstack([b, own_b * d])
        c, d = np.hstack([own_d * c, own_c]), own_d * d
    powers = np.linalg.solve(np.eye(STATES**2) - np.kron(a, a), np.outer(b, b).ravel()).reshape(STATES, STATES)
    out = np.linalg.cholesky((powers + powers.T) / 2)
    into = np.linalg.inv(out)
    return into @ a @ out, into @ b, c @ out, d


def _level(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, size: int) -> _Level:
    """Return a recursion s' = s A + x B, y = s C + x D, for row vectors, in blocks."""
    powers = [np.linalg.matrix_power(a, number) for number in range(size + 1)]
    later = [d, *(b @ powers[number] @ c for number in range(size - 1))]  # from an input to the outputs from its own on
    nothing = np.zeros_like(d)
    outputs = np.block([[later[out - into] if out >= into else nothing for out in range(size)] for into in range(size)])
    from_state = np.hstack([power @ c for power in powers[:size]])
    to_state = np.vstack([b @ power for power in reversed(powers[:size])])
    return _Level(size, *map(torch.from_numpy, (outputs, from_state, to_state, powers[size])))


@cache
def _levels(rate_hz: int, device: torch.device, dtype: torch.dtype) -> tuple[_Level, ...]:
    """Return the recursion of samples, then that of the states at the starts of its blocks, and so on."""
    a, b, c, d = _state_space(rate_hz)
    levels = [_level(a.T, b.T, c.T, np.array([[d]]), SIZES[0])]
    identity, nothing = np.eye(STATES), np.zeros((STATES, STATES))
    for size in SIZES[1:]:  # inputs are what each block adds to the state at its end, outputs are the states at their starts
        levels.append(_level(levels[-1].step.numpy(), identity, identity, nothing, size))
    return tuple(_Level(level.size, *(tensor.to(device, dtype) for tensor in level[1:])) for level in levels)


def _filtered(inputs: Tensor, state: Tensor, levels: tuple[_Level, ...]) -> tuple[Tensor, Tensor]:
    """Run a recursion over (rows, steps, numbers) of whole blocks; return outputs of the same shape, and the last state."""
    level, (rows, steps, numbers) = levels[0], inputs.shape
    blocks = inputs.reshape(rows * (steps // level.size), level.size * numbers)
    added = (blocks @ level.to_state).view(rows, -1, STATES)
    starts, state = _starts(added, state, level.step, levels[1:])
    outputs = (blocks @ level.outputs).addmm_(starts.flatten(0, 1), level.from_state)
    return outputs.view(rows, steps, -1), state


def _starts(added: Tensor, state: Tensor, step: Tensor, levels: tuple[_Level, ...]) -> tuple[Tensor, Tensor]:
    """Return the state at the start of each block, (rows, blocks, states), and at the end, from what each block adds."""
    whole = added.shape[1] // levels[0].size * levels[0].size if levels else 0
    starts = list[Tensor]()
    if whole:
        of_blocks, state = _filtered(added[:, :whole], state, levels)
        starts.append(of_blocks)
    for number in range(whole, added.shape[1]):
        starts.append(state[:, None])
        state = torch.addmm(added[:, number], state, step)
    return torch.cat(starts, dim=1), state


class KWeighted:
    """Energies of one part's stems after K-weighting, in windows of `window_samples`, added up piece by piece.

    In a part after the first, the filter begins as if the part's beginning, mirrored, came before it: an offset is no step there.
    """

    def __init__(self, rate_hz: int, *, stems: int, begin: int, samples: int) -> None:
        """Begin a part.

        Args:
            rate_hz: Sample rate of the stems.
            stems: Number of stems.
            begin: Samples of the track before the part.
            samples: Samples per channel of the part.
        """
        self._rate_hz, self._left, self._is_later = rate_hz, samples, begin > 0
        self._sums = WindowSums(window_samples(rate_hz), stems=stems, begin=begin, samples=samples)
        self._state: Tensor | None = None
        self._rest: Tensor | None = None  # less than a block

    @torch.inference_mode()
    def add(self, wave: Tensor) -> None:
        """Add the next piece: (stems, channels, samples) float32."""
        self._left -= wave.shape[-1]
        for chunk in wave.split(CHUNK if wave.device.type == "cpu" else max(1, wave.shape[-1]), dim=-1):
            self._add(chunk if self._rest is None else torch.cat([self._rest, chunk], dim=-1))
        if not self._left and self._rest is not None:
            rest, self._rest = self._rest, None
            whole = torch.nn.functional.pad(rest, (0, SIZES[0] - rest.shape[-1]))
            self._sums.add(self._weighted(whole)[..., : rest.shape[-1]])

    def _add(self, wave: Tensor) -> None:
        whole = wave.shape[-1] // SIZES[0] * SIZES[0]
        self._rest = wave[..., whole:].clone() if whole < wave.shape[-1] else None
        if whole:
            self._sums.add(self._weighted(wave[..., :whole]))

    def _weighted(self, wave: Tensor) -> Tensor:
        """Return a piece of whole blocks after the filter."""
        dtype = torch.float32 if wave.device.type == "cpu" else torch.float64  # a GPU may round to TF32
        levels = _levels(self._rate_hz, wave.device, dtype)
        rows = wave.to(dtype).flatten(0, 1)[..., None]
        if self._state is None:
            self._state = self._before(rows, levels) if self._is_later else rows.new_zeros((len(rows), STATES))
        filtered, self._state = _filtered(rows, self._state, levels)
        return filtered.view(wave.shape)

    def _before(self, rows: Tensor, levels: tuple[_Level, ...]) -> Tensor:
        """Return the state that the mirrored beginning of the first piece leaves, with its first sample for ever before it."""
        size = levels[0].size
        mirrored = rows[:, : max(size, window_samples(self._rate_hz) // size * size)].flip(1)
        lasting = torch.eye(STATES, dtype=rows.dtype, device=rows.device) - levels[0].step
        steady = mirrored[:, 0] * torch.linalg.solve(lasting.T, levels[0].to_state.sum(dim=0))
        return _filtered(mirrored, steady, levels)[1]

    def rows(self) -> list[np.ndarray]:
        """Return the energies as a part's row holds them, an array for each stem."""
        return list(self._sums.sums)
