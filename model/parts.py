"""Splitting of a track's wave into parts: runs of whole patches that are separated on their own and joined by concatenation.

A part travels as its spectrum, or as its wave, from which the Separator computes the same spectrum.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sep_batch.model.spec import ModelSpec
from sep_batch.model.spectrogram import frame_count, patch_wave, spectrum_of

FULL_SCALE = 32768  # of int16


class Part(NamedTuple):
    """A run of whole patches of one track; a part other than the first also has the patch before it.

    Attributes:
        payload: Spectrum of the part, (frames, channels, bins) complex64, or its wave with the zeros before and after the track,
            (samples, channels) float32, or int16 where that holds it exactly. Only the track's last part has frames that fill
            no patch.
        skip: Samples of this part's own synthesis that belong to the part before, or to the padding.
        samples: Samples of the track in this part.
        last: The track ends with this part.
        energy: Sum of squares of this part's own spectrum, all bins; 0 where the payload is a wave.
        energy_above_f: The same sum for the bins from F up.
    """

    payload: np.ndarray
    skip: int
    samples: int
    last: bool = True
    energy: float = 0.0
    energy_above_f: float = 0.0

    @property
    def is_wave(self) -> bool:
        """True where the payload is a wave."""
        return self.payload.ndim == 2

    def patches(self, spec: ModelSpec) -> list[np.ndarray]:
        """Return the patches as views of the payload; the last one may be shorter."""
        step, tail = _stride(spec, as_waves=self.is_wave)
        return [self.payload[begin : begin + step + tail] for begin in range(0, len(self.payload) - tail, step)]

    def context(self, spec: ModelSpec) -> int:
        """Return the number of patches at the front that belong to the part before: 0 or 1."""
        return int(self.skip >= spec.patch_samples)


def _stride(spec: ModelSpec, *, as_waves: bool) -> tuple[int, int]:
    """Return the distance between the starts of patches in a payload, and the overlap of each with the next."""
    return (spec.patch_samples, spec.frame_length - spec.hop) if as_waves else (spec.patch_frames, 0)


def split_parts(blocks: Iterable[Tensor], spec: ModelSpec, patches_per_part: int, *, as_waves: bool = False) -> Iterator[Part]:
    """Cut a streamed wave into parts.

    At most one patch and one block of the wave are held, and a part where the parts are waves.

    Args:
        blocks: A wave in pieces, each (2, samples) float32; together at least one sample.
        spec: The model's description.
        patches_per_part: Number of new patches in each part but the last.
        as_waves: Make parts with waves; else with spectra, of the bins that a stem can have energy in.

    Yields:
        Parts in order. The last one is yielded after the blocks have ended.
    """
    step, tail = _stride(spec, as_waves=as_waves)
    payload, context, begin = _empty(patches_per_part, spec, torch.int16 if as_waves else torch.complex64), 0, 0
    energy = above = 0.0
    for patch, (wave, samples) in enumerate(_patch_waves(iter(blocks), spec)):
        position = (patch % patches_per_part + context) * step
        if as_waves:
            new, payload = _of_one_type(wave.transpose(0, 1), payload)
        else:
            whole = spectrum_of(wave, spec)
            new = whole[..., : spec.kept_bins].transpose(0, 1)
            energy, above = energy + float(energies(whole)), above + float(energies(whole[..., spec.bins :]))
        filled = position + len(new)
        payload[position:filled] = new
        last = samples is not None
        if not last and (patch + 1) % patches_per_part:
            continue
        end = (patch + 1) * spec.patch_samples - spec.frame_length if samples is None else samples
        skip = spec.patch_samples if context else spec.frame_length
        is_short = 2 * filled < len(payload)  # many short tracks are in memory at once
        kept = payload[:filled].clone() if is_short else payload[:filled]
        yield Part(kept.numpy(), skip, end - begin, last, energy, above)
        del kept
        if not last:
            before, payload = payload[-step - tail :], _empty(patches_per_part + 1, spec, payload.dtype)
            payload[: step + tail] = before
            context, begin, energy, above = 1, end, 0.0, 0.0
            del before


def energies(spectrum: Tensor) -> Tensor:
    """Return the sum of squares of each patch's spectrum: (..., channels, frames, bins) to (...)."""
    pairs = torch.view_as_real(spectrum).flatten(-2)  # bins lie side by side: one dimension is several times as fast as four
    norms: Tensor = torch.linalg.vector_norm(pairs, dim=-1)
    return norms.square().sum(dim=(-2, -1))


def _of_one_type(new: Tensor, payload: Tensor) -> tuple[Tensor, Tensor]:
    """Return new samples, and the payload before them, in one type: int16 as long as it holds all of a track exactly."""
    if payload.dtype == torch.int16:
        scaled = new * FULL_SCALE
        whole = scaled.to(torch.int16)
        if torch.equal(whole.to(torch.float32), scaled):
            return whole, payload
    return new, float_wave(payload)


def float_wave(wave: Tensor) -> Tensor:
    """Return the wave of a part as float32, full scale 1."""
    return wave if wave.dtype == torch.float32 else wave.to(torch.float32).div_(FULL_SCALE)


def _empty(patches: int, spec: ModelSpec, dtype: torch.dtype) -> Tensor:
    step, tail = _stride(spec, as_waves=dtype != torch.complex64)
    channels = (spec.channels, spec.kept_bins) if dtype == torch.complex64 else (spec.channels,)
    return torch.empty((patches * step + tail, *channels), dtype=dtype)


def _patch_waves(blocks: Iterator[Tensor], spec: ModelSpec) -> Iterator[tuple[Tensor, int | None]]:
    """Yield each patch's `patch_wave` with None; the last one, cut to the wave's frames, with the length of the wave."""
    held, begin = torch.empty((spec.channels, 0)), 0
    for patch in itertools.count():
        next_begin = max((patch + 1) * spec.patch_samples - spec.frame_length, 0)
        pieces, missing = [held], next_begin + spec.frame_length - spec.hop - begin - held.shape[1]
        while missing > 0 and (block := next(blocks, None)) is not None:
            pieces.append(block)
            missing -= block.shape[1]
        held = torch.cat(pieces, dim=1) if len(pieces) > 1 else held
        samples = begin + held.shape[1]
        if samples <= next_begin:
            frames = frame_count(samples, spec) - patch * spec.patch_frames
            yield patch_wave(held, patch, spec, begin=begin, frames=frames), samples
            return
        yield patch_wave(held, patch, spec, begin=begin), None
        held, begin = held[:, next_begin - begin :], next_begin
