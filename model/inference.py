"""The network in a faster form with the same results, which one function derives from the plain `UNet`.

The changes:

- A transposed convolution of stride 2 is four plain ones, one for each pixel of a 2x2 square: a 5x5 kernel is split into
  3x3, 3x2, 2x3 and 2x2. That is the same number of operations, in the kernels that libraries compute fastest.
- BatchNorm is a multiplication and an addition, written straight into the buffer that the next block reads: skip and upsampled
  half lie in it side by side, nothing is concatenated or shuffled.
- TensorFlow's padding at stride 2 (1 before, 2 after) is 3 before, and the first output is dropped: this needs no padded copy.
- Memory is laid out channels last. On a CPU, where oneDNN supports the compute dtype, the weights are once put into its layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sep_batch.model.unet import DecoderBlock, EncoderBlock, UNet

FEWEST_FILTERS = 8  # with fewer filters, one convolution to all four pixels is faster than four
CHANNELS_LAST = torch.channels_last


@dataclass(frozen=True)
class Target:
    """Device and compute dtype of a network."""

    device: torch.device
    dtype: torch.dtype = torch.float32

    def bring(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device, in the compute dtype."""
        return tensor.detach().to(self.device, self.dtype)


def inference_form(unet: UNet, *, shape: tuple[int, int, int, int], target: Target) -> InferenceUNet:
    """Derive the faster form of a trained network.

    Args:
        unet: The plain network, in float32 on the CPU; its weights are not changed.
        shape: Shape of the magnitudes to come: (batch, channels, T, F).
        target: Device and compute dtype.
    """
    return InferenceUNet(unet.eval(), shape, target)


class InferenceUNet:
    """Maps magnitudes to logits as its `UNet` does; input and output are float32 for every compute dtype."""

    def __init__(self, unet: UNet, shape: tuple[int, int, int, int], target: Target) -> None:
        batch, _, height, width = shape
        sizes = [(batch, height >> level, width >> level) for level in range(len(unet.encoder) + 1)]
        encoder, decoder = cast("list[EncoderBlock]", unet.encoder), cast("list[DecoderBlock]", unet.decoder)
        self._encoder = [_Encoder(block, size, target) for block, size in zip(encoder, sizes, strict=False)]
        self._decoder = [_Decoder(block, size, target) for block, size in zip(decoder, sizes[:0:-1], strict=True)]
        self._head = target.bring(unet.head.weight), target.bring(_bias(unet.head))
        self._dtype = target.dtype

    @torch.inference_mode()
    def __call__(self, magnitude: Tensor) -> Tensor:
        """Map magnitudes (batch, channels, T, F) to logits of the same shape."""
        x = magnitude.to(self._dtype).contiguous(memory_format=CHANNELS_LAST)
        skips: list[Tensor | None] = [None]
        for encode in self._encoder[:-1]:
            skip, x = encode(x)
            skips.append(skip)
        x = self._encoder[-1].convolved(x)
        for decode in self._decoder:
            x = decode(x, skips.pop())
        return functional.conv2d(x.contiguous(), *self._head, padding=3, dilation=2).float()


class _Encoder:
    """An `EncoderBlock`."""

    def __init__(self, block: EncoderBlock, size: tuple[int, int, int], target: Target) -> None:
        self._conv = _Convolution(block.conv.weight, _bias(block.conv), size, target, stride=2, padding=3)
        self._scale, self._shift = _scale_and_shift(block.norm, target)
        self._activation = _in_place(block.activation)

    def convolved(self, x: Tensor) -> Tensor:
        return self._conv(x)[:, :, 1:, 1:]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.convolved(x)
        return skip, self._activation(torch.addcmul(self._shift, skip, self._scale))


class _Decoder:
    """A `DecoderBlock`, with its output joined to the next skip."""

    def __init__(self, block: DecoderBlock, size: tuple[int, int, int], target: Target) -> None:
        self._filters = block.conv.weight.shape[1]
        bias = _bias(block.conv)
        if self._filters < FEWEST_FILTERS:
            kernels, biases = [torch.cat(_pixels(block.conv, wide=True))], bias.repeat(4)
        else:
            kernels, biases = _pixels(block.conv, wide=False), bias
        relu = isinstance(block.activation, nn.ReLU)
        self._convs = [_Convolution(kernel, biases, size, target, stride=1, padding=1, relu=relu) for kernel in kernels]
        self._activation = nn.Identity() if relu else _in_place(block.activation)
        self._scale, self._shift = _scale_and_shift(block.norm, target)

    def __call__(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """Return (batch, skip's channels + filters, 2 T, 2 F)."""
        batch, _, height, width = x.shape
        channels = 0 if skip is None else skip.shape[1]
        shape = (batch, channels + self._filters, 2 * height, 2 * width)
        joined = torch.empty(shape, device=x.device, dtype=x.dtype, memory_format=CHANNELS_LAST)
        if skip is not None:
            joined[:, :channels] = skip
        pixels = [pixel for conv in self._convs for pixel in self._activation(conv(x)).split(self._filters, dim=1)]
        for number, pixel in enumerate(pixels):
            out = joined[:, channels:, number // 2 :: 2, number % 2 :: 2]
            torch.addcmul(self._shift, pixel[..., :height, :width], self._scale, out=out)
        return joined


class _Convolution:
    """A plain convolution; where oneDNN computes it, with the weights in its layout for the input's shape."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        size: tuple[int, int, int],
        target: Target,
        *,
        stride: int,
        padding: int,
        relu: bool = False,
    ) -> None:
        self._stride, self._padding, self._relu = [stride] * 2, [padding] * 2, relu
        self._weight = target.bring(weight).contiguous(memory_format=CHANNELS_LAST)
        self._bias = target.bring(bias)
        self._packed = _has_packed_convolutions(target)
        if self._packed:
            batch, height, width = size
            shape = [batch, weight.shape[1], height, width]
            reorder = torch.ops.mkldnn._reorder_convolution_weight  # noqa: SLF001 (what torch's own compiler uses)
            self._weight = reorder(self._weight, self._padding, self._stride, [1, 1], 1, shape)

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed:
            convolve = torch.ops.mkldnn._convolution_pointwise  # noqa: SLF001
            attribute = "relu" if self._relu else "none"
            y: Tensor = convolve(x, self._weight, self._bias, self._padding, self._stride, [1, 1], 1, attribute, [], "")
            return y
        y = functional.conv2d(x, self._weight, self._bias, stride=self._stride, padding=self._padding)
        return y.relu_() if self._relu else y


def _has_packed_convolutions(target: Target) -> bool:
    """Tell whether oneDNN convolves on this target with weights in its own layout.

    In bfloat16 it needs AVX-512 (BW, VL, DQ) or AVX-NE-CONVERT. Without them torch convolves in bfloat16 itself: the stems are
    as good, but on an AVX2 machine it took 8 times the CPU time of float32 (one thread, filters of the released models).
    """
    if target.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return target.dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 (torch's own test)


def _pixels(transposed: nn.ConvTranspose2d, *, wide: bool) -> list[Tensor]:
    """Return the convolution kernels that give the pixels of each 2x2 square of a transposed convolution, cropped [1:-2].

    Output 2 m + r takes input m + d, d = -1, 0, 1, through tap r + 1 - 2 d, where there is one: taps 3 and 1 for r = 0; 4, 2
    and 0 for r = 1.

    Args:
        transposed: Transposed convolution, 5x5, stride 2.
        wide: Pad every kernel to 3x3 with zeros.

    Returns:
        Kernels, (filters, channels, 2 or 3, 2 or 3) each, row after row.
    """
    flipped = transposed.weight.transpose(0, 1).flip((2, 3))  # (filters, channels, 5, 5)
    kernels = [flipped[:, :, 1 - row :: 2, 1 - column :: 2] for row in (0, 1) for column in (0, 1)]
    return [functional.pad(kernel, (0, 3 - kernel.shape[3], 0, 3 - kernel.shape[2])) for kernel in kernels] if wide else kernels


def _scale_and_shift(norm: nn.BatchNorm2d, target: Target) -> tuple[Tensor, Tensor]:
    mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    return target.bring(scale).view(1, -1, 1, 1), target.bring(shift).view(1, -1, 1, 1)


def _bias(conv: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    channels = conv.weight.shape[0] if isinstance(conv, nn.Conv2d) else conv.weight.shape[1]
    return torch.zeros(channels) if conv.bias is None else conv.bias.detach()


def _in_place(activation: nn.Module) -> nn.Module:
    """Return a new activation that overwrites its input."""
    if isinstance(activation, nn.LeakyReLU):
        return nn.LeakyReLU(activation.negative_slope, inplace=True)
    return type(activation)(inplace=True)
