"""The same numbers on a GPU: skipped where there is none."""

from __future__ import annotations

import golden_models
import pytest
import torch
from signals import noise, snr_db

from sep_batch.model.separator import Separator

CUDA_DB = 80.0  # float32 on both; convolutions sum in another order


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device that torch can use")
def test_a_gpu_gives_the_stems_of_the_cpu():
    wave = noise(30 * 44_100)
    spec, tensors = golden_models.spec("2stems"), golden_models.tensors("2stems")
    stems = {device: Separator(spec, tensors, device=device).separate(wave) for device in ("cpu", "cuda")}
    for stem, expected in stems["cpu"].items():
        assert snr_db(expected.numpy(), stems["cuda"][stem].numpy()) > CUDA_DB
