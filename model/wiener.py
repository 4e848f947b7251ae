"""The multichannel Wiener filter: stems of a whole track from the U-Nets' estimates and the stems' directions in the mix.

A stem has one spatial covariance in each bin, the mean over the whole track, and a power in each frame. So a track is read twice:
once for the covariances, once to be filtered, patch by patch each time. Sums are float64: between two nearly equal channels the
covariance of the mix is so close to singular that float32 keeps a few percent of its determinant.

Source: norbert 0.2.1, `wiener` with one iteration, as Spleeter's `MWF` calls it (`_build_mwf_output_waveform`); Nugraha, Liutkus
and Vincent, "Multichannel music separation with deep neural networks", EUSIPCO 2016.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sep_batch.model.masks import ratio_masks
from sep_batch.model.spec import ModelSpec
from sep_batch.model.spectrogram import Synthesis, overlap_add, spectrum_of

EPSILON = torch.finfo(torch.float32).eps  # norbert's, for spectra of complex64
LARGEST = 10.0  # magnitude above which norbert turns a mix down
CPU_FRAMES = 16  # computed at once on a CPU, so that they stay in its cache


class EstimatedPatch(NamedTuple):
    """A patch, and what the U-Nets made of it.

    Attributes:
        wave: (channels, samples) float32, all samples that its T frames cover; zeros after the track.
        estimates: (stems, channels, T, F) float32, of all stems of the model.
    """

    wave: Tensor
    estimates: Tensor


class FilteredPiece(NamedTuple):
    """The next samples of a track.

    Attributes:
        waves: (stems, channels, samples) float32.
        mix: The same samples before they were separated, (channels, samples) float32.
        band: The mix in the bins that stems have, (channels, samples) float32, for a null test.
    """

    waves: Tensor
    mix: Tensor
    band: Tensor


class _Covariances(NamedTuple):
    """Spatial covariance of each stem, [[left, cross], [conj(cross), right]]: (stems, 1, F) each; and what is added for noise."""

    left: Tensor
    right: Tensor
    cross: Tensor
    noise: Tensor


@torch.inference_mode()
def filtered(
    patches: Iterable[EstimatedPatch], samples: int, spec: ModelSpec, stems: Sequence[str] | None = None
) -> Iterator[FilteredPiece]:
    """Filter a track. Bins from F up are those of the ratio masks.

    Args:
        patches: All patches of the track, in order; iterated twice.
        samples: Samples per channel of the track.
        spec: The model's description.
        stems: Names of the stems to return, in this order; by default all.

    Yields:
        The samples that each patch completes.
    """
    covariances, synthesis = _covariances(patches, spec), Synthesis(spec.frame_length, samples, spec)
    chosen = [spec.stems.index(stem) for stem in stems or spec.stems]
    for number, (wave, estimates) in enumerate(patches):
        spectrum = spectrum_of(wave, spec)
        separated = _separated(estimates, spectrum[..., : spec.bins], covariances)[chosen]
        if spec.kept_bins > spec.bins:
            masks = ratio_masks(estimates.clone(), spec)[chosen]
            separated = torch.cat([separated, (masks * spectrum)[..., spec.bins :]], dim=-1)
        sums = torch.zeros((1, len(chosen) + 1, spec.channels, spec.patch_frames + 3, spec.hop), device=wave.device)
        for stem in range(len(chosen)):  # one after another: a stem needs four times the memory of its result
            overlap_add(sums[0, stem], separated[stem], spec)
        overlap_add(sums[0, -1], spectrum[..., : spec.kept_bins], spec)
        waves, start = synthesis.add(sums), number * spec.patch_samples - spec.frame_length
        mix = wave[:, max(-start, 0) : min(spec.patch_samples, samples - start)]
        yield FilteredPiece(waves[:-1], mix, waves[-1])


def _covariances(patches: Iterable[EstimatedPatch], spec: ModelSpec) -> _Covariances:
    """Return the covariances over all frames of a track, each weighted by its power."""
    totals, largest = [], []
    for wave, estimates in patches:
        spectrum = spectrum_of(wave, spec)
        largest.append(spectrum.abs().amax())
        totals.append(_sums(estimates, spectrum[..., : spec.bins]))
    total, scale = torch.stack(totals).sum(dim=0), (torch.stack(largest).amax().double() / LARGEST).clamp(min=1).square()
    left, right, real, imaginary = (total / (EPSILON * scale + total[:2].mean(dim=0)))[:, :, None]
    return _Covariances(left, right, torch.complex(real, imaginary), math.sqrt(EPSILON) * scale)


def _sums(estimates: Tensor, spectrum: Tensor) -> Tensor:
    """Return sums over the frames of a patch: of the power left and right, and of the cross product: (4, stems, F) float64."""
    sums = estimates.new_zeros((4, len(estimates), estimates.shape[-1]), dtype=torch.float64)
    for mix, ratios, powers in _blocks(estimates, spectrum):
        cross = mix[0] * mix[1].conj()
        both = ratios[:, 0] * ratios[:, 1]
        sums[:2] += powers.sum(dim=2).transpose(0, 1)
        sums[2] += (both * cross.real).sum(dim=1)
        sums[3] += (both * cross.imag).sum(dim=1)
    return sums


def _separated(estimates: Tensor, spectrum: Tensor, covariances: _Covariances) -> Tensor:
    """Filter one patch: (stems, channels, frames, F) complex64."""
    left, right, cross, noise = covariances
    separated = []
    for mix, _, powers in _blocks(estimates, spectrum):
        power = powers.mean(dim=1)
        mix_left, mix_right = ((power * side).sum(dim=0).add_(noise) for side in (left, right))
        mix_cross = (power * cross).sum(dim=0)
        determinant = mix_left * mix_right - mix_cross.real.square() - mix_cross.imag.square()
        white_left = (mix_right * mix[0] - mix_cross * mix[1]) / determinant  # the inverse covariance of the mix times the mix
        white_right = (mix_left * mix[1] - mix_cross.conj() * mix[0]) / determinant
        sides = [power * (left * white_left + cross * white_right), power * (cross.conj() * white_left + right * white_right)]
        separated.append(torch.stack(sides, dim=1).to(torch.complex64))
    return torch.cat(separated, dim=2)


def _blocks(estimates: Tensor, spectrum: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield some frames at a time: the mix (channels, frames, F); ratio and power of each stem (stems, channels, frames, F)."""
    step = CPU_FRAMES if spectrum.device.type == "cpu" else spectrum.shape[1]
    for frames, of_stems in zip(spectrum.split(step, dim=1), estimates.split(step, dim=2), strict=True):
        mix, own = frames.to(torch.complex128), of_stems.double()
        ratios = own / (own.sum(dim=0) + EPSILON)
        yield mix, ratios, ratios.square() * (mix.real.square() + mix.imag.square())
