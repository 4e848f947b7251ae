from __future__ import annotations

import dataclasses

import golden_models
import numpy as np
import pytest
import torch
from signals import snr_db
from torch import nn

from sep_batch.model.inference import Target, inference_form
from sep_batch.model.unet import DecoderBlock, EncoderBlock, UNet

SAME_DB = 100  # of two float32 computations of one formula, summed in another order
BFLOAT16_DB = 20  # eight bits of mantissa, through twelve layers
LEAKY, ELU = golden_models.spec("2stems"), golden_models.spec("5stems")
SMALL = (1, 2, 128, 192)  # batch, channels, T, F: multiples of 64


def magnitude(*, seed=0, shape=SMALL):
    return torch.from_numpy(np.random.default_rng(seed).exponential(size=shape).astype(np.float32))


@torch.no_grad()
def randomised(module, *, seed=0):
    """Give a network weights and BatchNorm statistics none of which is what it starts with."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            part.weight.uniform_(0.5, 2, generator=generator)
            part.bias.normal_(generator=generator)
        elif isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            part.bias.normal_(std=0.3, generator=generator)
    return module.eval()


def activated(x, activation):
    if activation == "ELU":
        return np.where(x > 0, x, np.expm1(x))
    return np.where(x > 0, x, (0.2 if activation == "LeakyReLU" else 0) * x)


def normed(x, norm):
    mean, var, gamma, beta = (
        part.detach().numpy().astype(np.float64)[:, None, None]
        for part in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (x - mean) / np.sqrt(var + 1e-3) * gamma + beta


def same_convolution(x, weight, bias):
    """5x5 at stride 2 as TensorFlow's "same" on even sizes: one zero before, two after."""
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2)))
    out = np.zeros((weight.shape[0], x.shape[1] // 2, x.shape[2] // 2))
    for row, column in np.ndindex(out.shape[1:]):
        seen = padded[:, 2 * row : 2 * row + 5, 2 * column : 2 * column + 5]
        out[:, row, column] = np.tensordot(weight, seen, axes=3) + bias
    return out


def same_transposed_convolution(x, weight, bias):
    """Spread each input over 5x5 outputs at stride 2, and drop the first and the last two, as TensorFlow's "same" does."""
    spread = np.zeros((weight.shape[1], 2 * x.shape[1] + 3, 2 * x.shape[2] + 3))
    for row, column in np.ndindex(x.shape[1:]):
        spread[:, 2 * row : 2 * row + 5, 2 * column : 2 * column + 5] += np.tensordot(x[:, row, column], weight, axes=1)
    return spread[:, 1:-2, 1:-2] + bias[:, None, None]


@pytest.mark.parametrize("activation", ["LeakyReLU", "ReLU", "ELU"])
def test_an_encoder_block_computes_its_formula(activation):
    block = randomised(EncoderBlock(3, 4, activation))
    x = magnitude(shape=(1, 3, 6, 8)) - 1
    with torch.no_grad():
        skip, out = block(x)
    weight, bias = (part.detach().numpy().astype(np.float64) for part in (block.conv.weight, block.conv.bias))
    convolved = same_convolution(x[0].numpy().astype(np.float64), weight, bias)
    assert snr_db(convolved, skip[0].numpy()) > SAME_DB
    assert snr_db(activated(normed(convolved, block.norm), activation), out[0].numpy()) > SAME_DB


@pytest.mark.parametrize("activation", ["LeakyReLU", "ReLU", "ELU"])
def test_a_decoder_block_computes_its_formula(activation):
    block = randomised(DecoderBlock(4, 3, activation, dropout=0.5))
    x = magnitude(shape=(1, 4, 3, 5)) - 1
    with torch.no_grad():
        out = block(x)
    weight, bias = (part.detach().numpy().astype(np.float64) for part in (block.conv.weight, block.conv.bias))
    upsampled = same_transposed_convolution(x[0].numpy().astype(np.float64), weight, bias)
    assert snr_db(normed(activated(upsampled, activation), block.norm), out[0].numpy()) > SAME_DB


def test_a_skip_is_the_convolution_before_batchnorm():
    block = randomised(EncoderBlock(2, 3, "ELU"))
    x = magnitude()
    with torch.no_grad():
        before = block(x)[0]
        block.norm.bias.add_(1)
        after = block(x)[0]
    assert torch.equal(before, after)


@pytest.mark.parametrize("shape", [(1, 2, 64, 64), (3, 2, 128, 192)])
def test_a_network_keeps_the_shape_of_what_it_sees(shape):
    with torch.no_grad():
        assert UNet(LEAKY).eval()(magnitude(shape=shape)).shape == shape


def test_blocks_halve_and_double_both_axes():
    encoder, decoder = EncoderBlock(2, 5, "ELU"), DecoderBlock(5, 2, "ELU", dropout=0.0)
    skip, down = encoder(magnitude())
    assert skip.shape == down.shape == (1, 5, 64, 96)
    assert decoder(down).shape == SMALL


def test_dropout_is_in_the_first_three_decoder_blocks_and_in_training_only():
    unet = UNet(LEAKY)
    assert [block.dropout.p for block in unet.decoder] == [0.5, 0.5, 0.5, 0, 0, 0]
    block, x = DecoderBlock(4, 8, "ELU", dropout=0.5), magnitude(shape=(1, 4, 16, 16))
    with torch.no_grad():
        block.eval()
        assert torch.equal(block(x), block(x))
        block.train()
        block.norm.bias.fill_(1.0)
        assert 0.4 < float((block(x) == 0).float().mean()) < 0.6


def fast_form(unet, shape):
    return inference_form(unet, shape=shape, target=Target(torch.device("cpu")))


@pytest.mark.parametrize("spec", [LEAKY, ELU], ids=["LeakyReLU and ReLU", "ELU"])
@pytest.mark.parametrize("filters", [(2, 3, 4, 6, 8, 8), (16, 16, 24, 32, 32, 40)], ids=["few filters", "many filters"])
@pytest.mark.parametrize("packed", [True, False], ids=["laid out for oneDNN", "as torch has them"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_form_that_runs_computes_what_the_network_does(spec, filters, packed, seed, monkeypatch):
    if not packed:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    unet = randomised(UNet(dataclasses.replace(spec, filters=filters)), seed=seed).eval()
    x = magnitude(seed=seed, shape=(2, 2, 128, 192))
    with torch.no_grad():
        expected, found = unet(x), fast_form(unet, x.shape)(x)
    assert snr_db(expected.numpy(), found.numpy()) > SAME_DB


def packed_dtypes(monkeypatch):
    """Have plain torch stand in for oneDNN's packed convolutions; return a list that gets the dtype of each packed weight."""
    dtypes = []

    def reorder(weight, *_shape):
        dtypes.append(weight.dtype)
        return weight

    def convolve(x, weight, bias, padding, stride, dilation, groups, attribute, *_none):
        y = torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
        return y.relu() if attribute == "relu" else y

    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", reorder, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", convolve)
    return dtypes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("has_bf16", [True, False], ids=["a CPU with bfloat16", "a CPU without"])
def test_weights_are_laid_out_for_onednn_only_in_a_dtype_that_it_computes_in_on_this_cpu(dtype, has_bf16, monkeypatch):
    dtypes = packed_dtypes(monkeypatch)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has_bf16)
    unet, x = randomised(UNet(LEAKY)), magnitude()
    found = inference_form(unet, shape=x.shape, target=Target(torch.device("cpu"), dtype))(x)
    assert set(dtypes) == ({dtype} if has_bf16 or dtype == torch.float32 else set())
    with torch.no_grad():
        assert snr_db(unet(x).numpy(), found.numpy()) > (SAME_DB if dtype == torch.float32 else BFLOAT16_DB)


def test_the_form_that_runs_leaves_the_network_as_it_was():
    unet, x = randomised(UNet(LEAKY)), magnitude()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    first = fast_form(unet, x.shape)(x)
    assert torch.equal(fast_form(unet, x.shape)(x), first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())


def test_the_form_that_runs_keeps_no_input():
    unet, x = randomised(UNet(LEAKY)), magnitude()
    fast, before = fast_form(unet, x.shape), magnitude()
    first = fast(x).clone()
    fast(magnitude(seed=9))
    assert torch.equal(x, before)
    assert torch.equal(fast(x), first)
