"""The same numbers on a GPU: skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from signals import noise, snr_db

from sep_batch.model import weights
from sep_batch.model.separator import Separator

CUDA_DB = 80.0  # float32 on both; convolutions sum in another order


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device that torch can use")
def test_a_gpu_gives_the_stems_of_the_cpu(tiny_models):
    from pathlib import Path

    wave = noise(30 * 44_100)
    on = {device: Separator(*weights.load(Path(tiny_models["2stems"])), device=device) for device in ("cpu", "cuda")}
    stems = {device: separator.separate(wave) for device, separator in on.items()}
    for stem, expected in stems["cpu"].items():
        assert snr_db(expected.numpy(), stems["cuda"][stem].numpy()) > CUDA_DB
