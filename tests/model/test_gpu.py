"""The same numbers on a GPU: skipped where there is none."""

from __future__ import annotations

import golden_models
import pytest
import torch
from signals import noise, snr_db

from sep_batch.model.parts import split_parts
from sep_batch.model.separator import Separator

CUDA_DB = 80.0  # float32 on both; convolutions sum in another order


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device that torch can use"),
]


def test_a_gpu_gives_the_stems_of_the_cpu():
    wave = noise(30 * 44_100)
    spec, tensors = golden_models.spec("2stems"), golden_models.tensors("2stems")
    stems = {device: Separator(spec, tensors, device=device).separate(wave) for device in ("cpu", "cuda")}
    for stem, expected in stems["cpu"].items():
        assert snr_db(expected.numpy(), stems["cuda"][stem].numpy()) > CUDA_DB


def test_the_stft_on_a_gpu_gives_the_stems_of_that_on_the_cpu():
    spec, tensors, wave = golden_models.spec("2stems"), golden_models.tensors("2stems"), torch.from_numpy(noise(30 * 44_100))
    found = []
    for as_waves in (False, True):
        separator = Separator(spec, tensors, device="cuda")
        (stems,) = golden_models.waves_of(separator, list(split_parts([wave], spec, 20, as_waves=as_waves)))
        found.append(stems.cpu().numpy())
    assert snr_db(*found) > CUDA_DB
