"""Wave to spectrum and back, as Spleeter computes them, and the cutting of a spectrum into patches.

Every transform runs on one patch at a time, so a result does not depend on the length of the track or on where it was cut. Time
counts from the start of the padded wave: Spleeter puts one frame of zeros before the track.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from sep_batch.model.spec import ModelSpec


def as_stereo(wave: Tensor) -> Tensor:
    """Make two channels: mono is doubled; the first two of more channels are kept.

    Args:
        wave: (channels, samples) or (samples,).

    Returns:
        (2, samples) float32.
    """
    wave = wave.reshape(1, -1) if wave.ndim == 1 else wave
    return (wave.expand(2, -1) if wave.shape[0] == 1 else wave[:2]).to(torch.float32)


def frame_count(samples: int, spec: ModelSpec) -> int:
    """Return the number of frames of a wave: ceil((samples + frame_length) / hop)."""
    return math.ceil((samples + spec.frame_length) / spec.hop)


def patch_count(samples: int, spec: ModelSpec) -> int:
    """Return the number of patches of a wave."""
    return math.ceil(frame_count(samples, spec) / spec.patch_frames)


def patch_wave(wave: Tensor, patch: int, spec: ModelSpec, *, begin: int = 0, frames: int | None = None) -> Tensor:
    """Cut out the samples that the frames of one patch cover, with zeros before and after the track.

    Args:
        wave: (channels, samples) float32, full scale 1: from `begin` on, at least to the end of the patch or the track.
        patch: Number of the patch, from 0.
        begin: Sample of the track at which the wave begins; not after the patch's start.
        frames: Number of frames, by default T.

    Returns:
        (channels, samples), (frames - 1) hops and a frame long.
    """
    start = patch * spec.patch_samples - spec.frame_length - begin
    stop = start + ((frames or spec.patch_frames) - 1) * spec.hop + spec.frame_length
    inside = wave[:, max(start, 0) : min(stop, wave.shape[1])]
    before = max(-start, 0)
    return torch.nn.functional.pad(inside, (before, stop - start - before - inside.shape[1]))


@cache
def _transform(frame_length: int, hop: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return torchaudio's STFT; where its compiled part does not fit torch's build, torch's own, which it calls."""
    try:
        from torchaudio.transforms import Spectrogram
    except OSError:
        window = torch.hann_window(frame_length, device=device)
        stft = partial(torch.stft, n_fft=frame_length, hop_length=hop, window=window, center=False, return_complex=True)
        return lambda wave: stft(wave.flatten(0, -2)).unflatten(0, wave.shape[:-1])
    transform: Callable[[Tensor], Tensor] = Spectrogram(n_fft=frame_length, hop_length=hop, power=None, center=False).to(device)
    return transform


def spectrum_of(wave: Tensor, spec: ModelSpec) -> Tensor:
    """Compute the STFT of a wave from `patch_wave`: periodic Hann, no centring.

    Args:
        wave: (..., channels, samples) float32.
        spec: The model's description.

    Returns:
        (..., channels, frames, frame_length / 2 + 1) complex64.

    Source: Spleeter's `EstimatorSpecBuilder._build_stft_feature` (tf.signal.stft with pad_end).
    """
    return _transform(spec.frame_length, spec.hop, wave.device)(wave).transpose(-1, -2)


def magnitude(spectrum: Tensor) -> Tensor:
    """Return absolute values in half the time of `torch.abs`, without its guard against overflow."""
    pairs = torch.view_as_real(spectrum)
    real, imaginary = pairs[..., 0], pairs[..., 1]
    return real.square().addcmul_(imaginary, imaginary).sqrt_()


@cache
def synthesis_window(frame_length: int, device: torch.device) -> Tensor:
    """Return the window of the inverse STFT: periodic Hann times 2/3, so that windows at hop = frame / 4 sum to one."""
    return torch.hann_window(frame_length, device=device) * (2 / 3)


def overlap_add(sums: Tensor, spectrum: Tensor, spec: ModelSpec) -> None:
    """Add the inverse STFT of patches, each on its own: inverse real FFT, window, overlap-add.

    Args:
        sums: (..., T + 3, hop), updated in place; the last three hops belong to the next patch.
        spectrum: (..., frames, bins) complex64, at most T frames; missing bins at the top are zero.
        spec: The model's description.

    Source: Spleeter's `EstimatorSpecBuilder._inverse_stft` (tf.signal.inverse_stft, times 2/3).
    """
    quarters = torch.fft.irfft(spectrum, n=spec.frame_length).unflatten(-1, (4, spec.hop))
    window = synthesis_window(spec.frame_length, spectrum.device).view(4, spec.hop)
    for quarter in range(4):
        sums[..., quarter : quarter + spectrum.shape[-2], :].addcmul_(quarters[..., quarter, :], window[quarter])


class Synthesis:
    """Joins a part's patches to its wave, some patches at a time."""

    def __init__(self, skip: int, samples: int, spec: ModelSpec) -> None:
        """Begin a part with the `skip` and `samples` of its `Part`."""
        self._spec, self._position, self._samples = spec, -skip, samples
        self._overlap: Tensor | None = None

    def add(self, sums: Tensor) -> Tensor:
        """Return the wave of the next patches.

        Args:
            sums: (patches, ..., T + 3, hop), as `overlap_add` fills them; overwritten.

        Returns:
            (..., samples), the samples that belong to the part; maybe none.
        """
        length = self._spec.patch_frames
        if self._overlap is not None:
            sums[0, ..., :3, :] += self._overlap
        sums[1:, ..., :3, :] += sums[:-1, ..., length:, :]
        self._overlap = sums[-1, ..., length:, :].clone()
        begin, end = max(-self._position, 0), min(len(sums) * self._spec.patch_samples, self._samples - self._position)
        self._position += len(sums) * self._spec.patch_samples
        wave = sums[..., :length, :].movedim(0, -3).flatten(-3)
        return wave[..., begin : max(begin, end)]
