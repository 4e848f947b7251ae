"""Wave to spectrum and back, as Spleeter does it, and the cutting of a spectrum into patches and parts.

Every transform here runs one patch at a time, so a result never depends on how long the track is or where it
was cut. Time counts from the padded wave: Spleeter puts one frame of zeros before it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torchaudio
from torch import Tensor

from sep_batch.model.spec import ModelSpec


class Part(NamedTuple):
    """A run of whole patches of one track, with the patch before it where it is not the first.

    Attributes:
        spectrum: (frames, channels, bins) complex64; only the track's last part has frames that fill no patch.
        skip: Samples of this part's own synthesis that belong to the part before, or to the padding.
        samples: Samples of the track that this part gives.
        last: Whether the track ends here.
        energy: Sum of squares of this part's own spectrum, all bins.
        energy_above_f: The same of the bins from F up.
    """

    spectrum: np.ndarray
    skip: int
    samples: int
    last: bool = True
    energy: float = 0.0
    energy_above_f: float = 0.0


def as_stereo(wave: Tensor) -> Tensor:
    """Make two channels: mono is doubled; of more than two, the first two are kept.

    Args:
        wave: (channels, samples) or (samples,).

    Returns:
        (2, samples) float32.
    """
    wave = wave.reshape(1, -1) if wave.ndim == 1 else wave
    return (wave.expand(2, -1) if wave.shape[0] == 1 else wave[:2]).to(torch.float32)


def frame_count(samples: int, spec: ModelSpec) -> int:
    """Return the frames of a wave of so many samples: ceil((samples + frame_length) / hop)."""
    return math.ceil((samples + spec.frame_length) / spec.hop)


def patch_count(samples: int, spec: ModelSpec) -> int:
    """Return the patches of a wave of so many samples."""
    return math.ceil(frame_count(samples, spec) / spec.patch_frames)


@cache
def _transform(frame_length: int, hop: int) -> torchaudio.transforms.Spectrogram:
    return torchaudio.transforms.Spectrogram(n_fft=frame_length, hop_length=hop, power=None, center=False)


def patch_spectrum(wave: Tensor, patch: int, spec: ModelSpec, *, begin: int = 0, frames: int | None = None) -> Tensor:
    """Compute the STFT of one patch: periodic Hann, no centring, zeros before and after the wave.

    Args:
        wave: (channels, samples) float32, full scale 1: from `begin` on, at least to where the patch ends or the track does.
        patch: Which patch, from 0.
        begin: Where in its track the wave begins; not after the patch.
        frames: Only so many of the patch's T.

    Returns:
        (channels, T, frame_length / 2 + 1) complex64; frames past the wave's end are zero.

    Source: Spleeter's `EstimatorSpecBuilder._build_stft_feature` (tf.signal.stft with pad_end).
    """
    start = patch * spec.patch_samples - spec.frame_length - begin
    stop = start + ((frames or spec.patch_frames) - 1) * spec.hop + spec.frame_length
    inside = wave[:, max(start, 0) : min(stop, wave.shape[1])]
    before = max(-start, 0)
    after = stop - start - before - inside.shape[1]
    framed = torch.nn.functional.pad(inside, (before, after))
    spectrum: Tensor = _transform(spec.frame_length, spec.hop)(framed)
    return spectrum.transpose(1, 2)


def magnitude(spectrum: Tensor) -> Tensor:
    """Return absolute values, in half the time of `torch.abs`, which guards against overflow."""
    pairs = torch.view_as_real(spectrum)
    real, imaginary = pairs[..., 0], pairs[..., 1]
    return real.square().addcmul_(imaginary, imaginary).sqrt_()


def stft(wave: Tensor, spec: ModelSpec) -> Tensor:
    """Compute the whole spectrum.

    Args:
        wave: (channels, samples) float32, at least one sample.

    Returns:
        (channels, frames, frame_length / 2 + 1) complex64.
    """
    patches = [patch_spectrum(wave, patch, spec) for patch in range(patch_count(wave.shape[1], spec))]
    return torch.cat(patches, dim=1)[:, : frame_count(wave.shape[1], spec)]


def split_patches(spectrum: Tensor, spec: ModelSpec) -> Tensor:
    """Cut a spectrum into patches, the last padded with zeros.

    Args:
        spectrum: (channels, frames, bins).

    Returns:
        (patches, channels, T, bins).
    """
    channels, frames, bins = spectrum.shape
    padded = torch.nn.functional.pad(spectrum, (0, 0, 0, -frames % spec.patch_frames))
    return padded.reshape(channels, -1, spec.patch_frames, bins).transpose(0, 1)


def join_patches(patches: Tensor, frames: int) -> Tensor:
    """Undo `split_patches`.

    Args:
        patches: (patches, channels, T, bins).
        frames: Of the spectrum that was split.

    Returns:
        (channels, frames, bins).
    """
    return patches.transpose(0, 1).flatten(1, 2)[:, :frames]


def split_parts(blocks: Iterable[Tensor], spec: ModelSpec, patches_per_part: int) -> Iterator[Part]:
    """Cut a streamed wave into parts that are separated on their own and whose stems join by concatenation.

    Never more of the wave is held than a patch and a block.

    Args:
        blocks: A wave in pieces, each (2, samples) float32; together at least one sample.
        spec: The model's description.
        patches_per_part: Whole patches that each part but the last gives.

    Yields:
        Parts in order, with the bins that a stem can hold. The last one is yielded after the blocks have ended.
    """
    length = spec.patch_frames
    spectrum, context, begin = _empty_spectrum(patches_per_part, spec), 0, 0
    energy = above = 0.0
    for patch, (whole, samples) in enumerate(_patch_spectra(iter(blocks), spec)):
        place = (patch % patches_per_part + context) * length
        frames = place + whole.shape[1]
        spectrum[place:frames] = whole[..., : spec.kept_bins].transpose(0, 1)
        energy, above = energy + _energy(whole), above + _energy(whole[..., spec.bins :])
        last = samples is not None
        if not last and (patch + 1) % patches_per_part:
            continue
        end = (patch + 1) * spec.patch_samples - spec.frame_length if samples is None else samples
        skip = spec.patch_samples if context else spec.frame_length
        kept = (
            spectrum[:frames].clone() if 2 * frames < len(spectrum) else spectrum[:frames]
        )  # many short tracks lie side by side
        yield Part(kept.numpy(), skip, end - begin, last, energy, above)
        del kept
        if not last:
            before, spectrum = spectrum[-length:], _empty_spectrum(patches_per_part + 1, spec)
            spectrum[:length] = before
            context, begin, energy, above = 1, end, 0.0, 0.0
            del before


def _empty_spectrum(patches: int, spec: ModelSpec) -> Tensor:
    return torch.empty((patches * spec.patch_frames, spec.channels, spec.kept_bins), dtype=torch.complex64)


def _patch_spectra(blocks: Iterator[Tensor], spec: ModelSpec) -> Iterator[tuple[Tensor, int | None]]:
    """Yield each patch's `patch_spectrum`, the last one as far as it goes, and with it how many samples the wave had."""
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
            yield patch_spectrum(held, patch, spec, begin=begin, frames=frames), samples
            return
        yield patch_spectrum(held, patch, spec, begin=begin), None
        held, begin = held[:, next_begin - begin :], next_begin


def _energy(spectrum: Tensor) -> float:
    return float(torch.linalg.vector_norm(torch.view_as_real(spectrum))) ** 2


@cache
def synthesis_window(frame_length: int, device: torch.device) -> Tensor:
    """Return the window of the inverse STFT: periodic Hann times 2/3, which makes hop = frame / 4 sum to one."""
    return torch.hann_window(frame_length, device=device) * (2 / 3)


def overlap_add(sums: Tensor, spectrum: Tensor, spec: ModelSpec) -> None:
    """Add the inverse STFT of patches, each alone: inverse real FFT, window, overlap-add.

    Args:
        sums: (..., T + 3, hop), added to in place: the last three hops belong to the patch after.
        spectrum: (..., frames, bins) complex64, at most T; bins that are missing at the top are zero.
        spec: The model's description.

    Source: Spleeter's `EstimatorSpecBuilder._inverse_stft` (tf.signal.inverse_stft, times 2/3).
    """
    quarters = torch.fft.irfft(spectrum, n=spec.frame_length).unflatten(-1, (4, spec.hop))
    window = synthesis_window(spec.frame_length, spectrum.device).view(4, spec.hop)
    for quarter in range(4):
        sums[..., quarter : quarter + spectrum.shape[-2], :].addcmul_(quarters[..., quarter, :], window[quarter])


class Synthesis:
    """Joins a part's patches to its wave, some at a time."""

    def __init__(self, part: Part, spec: ModelSpec) -> None:
        self._spec, self._place, self._samples = spec, -part.skip, part.samples
        self._overlap: Tensor | None = None

    def add(self, sums: Tensor) -> Tensor:
        """Return the wave that the next patches give.

        Args:
            sums: (patches, ..., T + 3, hop), as `overlap_add` fills them; overwritten.

        Returns:
            (..., samples), what belongs to the part of these patches; perhaps none.
        """
        length = self._spec.patch_frames
        if self._overlap is not None:
            sums[0, ..., :3, :] += self._overlap
        sums[1:, ..., :3, :] += sums[:-1, ..., length:, :]
        self._overlap = sums[-1, ..., length:, :].clone()
        begin, end = max(-self._place, 0), min(len(sums) * self._spec.patch_samples, self._samples - self._place)
        self._place += len(sums) * self._spec.patch_samples
        wave = sums[..., :length, :].movedim(0, -3).flatten(-3)
        return wave[..., begin : max(begin, end)]


def inverse_stft(spectrum: Tensor, samples: int, spec: ModelSpec) -> Tensor:
    """Turn a spectrum back into its wave.

    Args:
        spectrum: (channels, frames, bins) complex64.
        samples: The wave's exact length.

    Returns:
        (channels, samples) float32.
    """
    patches = split_patches(spectrum, spec)
    sums = torch.zeros((*patches.shape[:2], spec.patch_frames + 3, spec.hop), device=spectrum.device)
    overlap_add(sums, patches, spec)
    return Synthesis(Part(np.empty(0), spec.frame_length, samples), spec).add(sums)
