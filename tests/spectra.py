"""Spectra of whole waves, made of the functions that a run calls patch by patch."""

from __future__ import annotations

import torch

from sep_batch.model.spec import ModelSpec
from sep_batch.model.spectrogram import Synthesis, frame_count, overlap_add, patch_count, patch_wave, spectrum_of


def stft(wave: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """Return the spectrum of a wave, (channels, frames, frame_length / 2 + 1) complex64."""
    patches = [spectrum_of(patch_wave(wave, patch, spec), spec) for patch in range(patch_count(wave.shape[1], spec))]
    return torch.cat(patches, dim=1)[:, : frame_count(wave.shape[1], spec)]


def inverse_stft(spectrum: torch.Tensor, samples: int, spec: ModelSpec) -> torch.Tensor:
    """Return the wave of a spectrum, (channels, samples) float32."""
    channels, frames, bins = spectrum.shape
    padded = torch.nn.functional.pad(spectrum, (0, 0, 0, -frames % spec.patch_frames))
    patches = padded.reshape(channels, -1, spec.patch_frames, bins).transpose(0, 1)
    sums = torch.zeros((*patches.shape[:2], spec.patch_frames + 3, spec.hop))
    overlap_add(sums, patches, spec)
    return Synthesis(spec.frame_length, samples, spec).add(sums)
