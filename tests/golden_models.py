"""The golden vectors: tiny models with random weights, and what TensorFlow Spleeter made of one song with them."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence

import numpy as np
import torch
from catalogs import decoded
from project_files import TESTS

from sep_batch.model import checkpoint
from sep_batch.model.parts import Part
from sep_batch.model.separator import Separator
from sep_batch.model.spec import ModelSpec

torch.set_num_threads(1)  # models this small gain nothing from more; threads that wait for a busy core lose much

FOLDER = TESTS / "golden"
SETS = ("2stems", "4stems", "5stems", "2stems-16kHz-average")


def config(name: str) -> dict:
    """Return a set's Spleeter configuration."""
    return json.loads((FOLDER / name / "config.json").read_text())


def spec(name: str) -> ModelSpec:
    """Return a set's model description."""
    return ModelSpec.from_spleeter(config(name), name=name)


def files(name: str) -> tuple[bytes, bytes]:
    """Return a set's checkpoint: index and data."""
    return (FOLDER / name / "model.index").read_bytes(), (FOLDER / name / "model.data-00000-of-00001").read_bytes()


@functools.cache
def tensors(name: str) -> dict[str, np.ndarray]:
    """Return a set's weights under our names."""
    return checkpoint.map_names(checkpoint.read(*files(name)), spec(name)).tensors


@functools.cache
def separator(name: str, batch: int = 1, threads: int = 1) -> Separator:
    """Return a set's model, ready to run on the CPU."""
    return Separator(spec(name), tensors(name), batch=batch, threads=threads)


@functools.cache
def song() -> np.ndarray:
    """Return the song that every set was run on, (2, samples)."""
    with (FOLDER / "input.flac").open("rb") as file:
        return decoded(file.read()).wave


def waves_of(separator: Separator, parts: Sequence[Part]) -> list[torch.Tensor]:
    """Return the stems' waves of each part, (stems, channels, samples)."""
    pieces: list[list[torch.Tensor]] = [[] for _ in parts]
    for piece in separator.separate_parts(parts):
        pieces[piece.part_index].append(piece.waves)
    return [torch.cat(waves, dim=-1) for waves in pieces]


def small_spec(name: str) -> ModelSpec:
    """Return a set's model over a shorter STFT and smaller patches: 64 frames of 512 samples, 128 bins."""
    return dataclasses.replace(spec(name), frame_length=512, hop=128, patch_frames=64, bins=128)


def narrow_spec(name: str) -> ModelSpec:
    """Return a set's model over a shorter STFT, with as many frames in a patch: 512 frames of 512 samples, 128 bins."""
    return dataclasses.replace(spec(name), frame_length=512, hop=128, bins=128)


@functools.cache
def small_separator(name: str, batch: int = 1) -> Separator:
    """Return a set's model that runs in a hundredth of the time, for what holds whatever the constants are."""
    return Separator(small_spec(name), tensors(name), batch=batch)
