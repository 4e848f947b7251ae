"""The path of a batch on a GPU, with tensors of a shape, a type and a device, but no values: no mix of devices or types."""

from __future__ import annotations

import dataclasses

import golden_models
import pytest
import torch
from signals import noise
from torch._subclasses.fake_tensor import FakeTensorMode

from sep_batch.model import separator
from sep_batch.model.parts import split_parts
from sep_batch.model.separator import PRECISIONS, Separator
from sep_batch.model.spectrogram import Synthesis
from sep_batch.model.wiener import EstimatedPatch, filtered


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")
@pytest.mark.parametrize("as_waves", [False, True], ids=["spectra", "waves"])
@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_precision_head_and_transport_stays_on_the_device_and_ends_in_float32(monkeypatch, precision, head, as_waves):
    spec = dataclasses.replace(golden_models.small_spec("2stems"), head=head)
    parts = list(split_parts([torch.from_numpy(noise(3 * spec.patch_samples))], spec, 20, as_waves=as_waves))
    patches = [patch for part in parts for patch in part.patches(spec)]
    plain = separator._plain(spec, golden_models.tensors("2stems"))
    monkeypatch.setattr(separator, "_plain", lambda *_: plain)
    monkeypatch.setattr(separator, "_stacked", lambda *_: None)  # it copies values, and there are none
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        on_gpu = Separator(spec, golden_models.tensors("2stems"), device="cuda", batch=4, precision=precision)
        batch = on_gpu._synthesis_of(patches, range(len(spec.stems)), 4)
        wave = Synthesis(parts[0].skip, parts[0].samples, spec).add(batch.stems)
    assert (batch.stems.device.type, batch.stems.dtype) == ("cuda", torch.float32)
    assert (wave.device.type, wave.shape) == ("cuda", (len(spec.stems), spec.channels, parts[0].samples))


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")
@pytest.mark.parametrize("extension", ["zeros", "average"])
def test_the_wiener_filter_stays_on_the_device(extension):
    spec = dataclasses.replace(golden_models.small_spec("2stems"), mask_extension=extension)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        wave = torch.empty((spec.channels, spec.patch_wave_samples), device="cuda")
        estimates = torch.empty((len(spec.stems), spec.channels, spec.patch_frames, spec.bins), device="cuda")
        samples = 2 * spec.patch_samples - spec.frame_length
        pieces = list(filtered([EstimatedPatch(wave, estimates)] * 2, samples, spec))
    assert {(piece.waves.device.type, piece.waves.dtype, piece.mix.device.type) for piece in pieces} == {
        ("cuda", torch.float32, "cuda")
    }
    assert sum(piece.waves.shape[-1] for piece in pieces) == sum(piece.mix.shape[-1] for piece in pieces) == samples
