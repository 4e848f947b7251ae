"""Wave to spectrum and back, as Spleeter does it, and the cutting of a spectrum into patches and parts.

Every transform here runs one patch at a time, so a result never depends on how long the track is or where it
was cut. Time counts from the padded wave: Spleeter puts one frame of zeros before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import torch
import torchaudio
from torch import Tensor

from sep_batch.model.spec import ModelSpec


class Part(NamedTuple):
    """A run of whole patches of one track, with the patch before it where it is not the first.

    Attributes:
        spectrum: (patches, channels, T, bins) complex64.
        skip: Samples of this part's own synthesis that belong to the part before, or to the padding.
        samples: Samples of the track that this part gives.
        last: Whether the track ends here.
        energy: Sum of squares of this part's own spectrum, all bins.
        energy_above_f: The same of the bins from F up.
    """

    spectrum: Tensor
    skip: int
    samples: int
    last: bool
    energy: float
    energy_above_f: float


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


def patch_spectrum(wave: Tensor, patch: int, spec: ModelSpec) -> Tensor:
    """Compute the STFT of one patch: periodic Hann, no centring, zeros before and after the wave.

    Args:
        wave: (channels, samples) float32, full scale 1.
        patch: Which patch, from 0.

    Returns:
        (channels, T, frame_length / 2 + 1) complex64; frames past the wave's end are zero.

    Source: Spleeter's `EstimatorSpecBuilder._build_stft_feature` (tf.signal.stft with pad_end).
    """
    start = patch * spec.patch_samples - spec.frame_length
    stop = start + (spec.patch_frames - 1) * spec.hop + spec.frame_length
    inside = wave[:, max(start, 0) : min(stop, wave.shape[1])]
    before = max(-start, 0)
    after = stop - start - before - inside.shape[1]
    framed = torch.nn.functional.pad(inside, (before, after))
    spectrum: Tensor = _transform(spec.frame_length, spec.hop)(framed)
    return spectrum.transpose(1, 2)


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


def split_parts(wave: Tensor, spec: ModelSpec, patches_per_part: int) -> Iterator[Part]:
    """Cut a wave into parts that are separated on their own and whose stems join by concatenation.

    Args:
        wave: (2, samples) float32.
        patches_per_part: Whole patches that each part but the last gives.

    Yields:
        Parts in order, with the bins that a stem can hold.
    """
    samples, patches = wave.shape[1], patch_count(wave.shape[1], spec)
    for first in range(0, patches, patches_per_part):
        stop = min(first + patches_per_part, patches)
        context = min(first, 1)
        spectrum = torch.empty((stop - first + context, spec.channels, spec.patch_frames, spec.kept_bins), dtype=torch.complex64)
        energy = above = 0.0
        for place, patch in enumerate(range(first - context, stop)):
            whole = patch_spectrum(wave, patch, spec)
            spectrum[place] = whole[..., : spec.kept_bins]
            if patch >= first:
                energy, above = energy + _energy(whole), above + _energy(whole[..., spec.bins :])
        begin = max(first * spec.patch_samples - spec.frame_length, 0)
        end = min(stop * spec.patch_samples - spec.frame_length, samples)
        skip = spec.patch_samples if context else spec.frame_length
        yield Part(spectrum, skip, end - begin, stop == patches, energy, above)


def _energy(spectrum: Tensor) -> float:
    return float(torch.linalg.vector_norm(torch.view_as_real(spectrum))) ** 2


@cache
def synthesis_window(frame_length: int, device: torch.device) -> Tensor:
    """Return the window of the inverse STFT: periodic Hann times 2/3, which makes hop = frame / 4 sum to one."""
    return torch.hann_window(frame_length, device=device) * (2 / 3)


def overlap_add(out: Tensor, spectrum: Tensor, patch: int, spec: ModelSpec) -> None:
    """Add one patch's inverse STFT onto a track's output, in place.

    Args:
        out: (..., hops, hop): the output in runs of one hop; at least (patch + 1) T + 3 of them.
        spectrum: (..., T, bins) complex64; bins that are missing at the top are zero.
        patch: Its place in `out`, from 0.

    Source: Spleeter's `EstimatorSpecBuilder._inverse_stft` (tf.signal.inverse_stft, times 2/3).
    """
    frames = torch.fft.irfft(spectrum, n=spec.frame_length)
    frames *= synthesis_window(spec.frame_length, spectrum.device)
    quarters = frames.unflatten(-1, (4, spec.hop))
    start = patch * spec.patch_frames
    for quarter in range(4):
        out[..., start + quarter : start + quarter + spec.patch_frames, :] += quarters[..., quarter, :]


def inverse_stft(spectrum: Tensor, samples: int, spec: ModelSpec) -> Tensor:
    """Turn a spectrum back into its wave.

    Args:
        spectrum: (channels, frames, bins) complex64.
        samples: The wave's exact length.

    Returns:
        (channels, samples) float32.
    """
    patches = split_patches(spectrum, spec)
    hops = len(patches) * spec.patch_frames + 3
    out = torch.zeros((spectrum.shape[0], hops, spec.hop), device=spectrum.device)
    for place, patch in enumerate(patches):
        overlap_add(out, patch, place, spec)
    return out.flatten(1)[:, spec.frame_length : spec.frame_length + samples]
