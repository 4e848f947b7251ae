"""The network: a U-Net over magnitude spectrograms, one per stem, written as in the paper. `inference` has the fast form.

Heads and masks are in `separator`, the source of the weights in `weights`.

Source: Jansson et al., "Singing voice separation with deep U-Net convolutional networks" (ISMIR 2017), in the form that
Spleeter trained (`spleeter/model/functions/unet.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sep_batch.model.spec import Activation, ModelSpec

BATCH_NORM_EPS = 1e-3  # TensorFlow's default; torch's is 1e-5
LEAKY_SLOPE = 0.2
DROPOUT = 0.5  # in the first three decoder blocks, in training only


def activation_of(name: Activation) -> nn.Module:
    """Return the activation that a spec names."""
    return {"LeakyReLU": nn.LeakyReLU(LEAKY_SLOPE), "ReLU": nn.ReLU(), "ELU": nn.ELU()}[name]


class EncoderBlock(nn.Module):
    """Halve both axes: 5x5 stride-2 convolution, BatchNorm, activation."""

    def __init__(self, channels: int, filters: int, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, kernel_size=5, stride=2)
        self.norm = nn.BatchNorm2d(filters, eps=BATCH_NORM_EPS)
        self.activation = activation_of(activation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the input of the decoder's skip (before BatchNorm) and the input of the next block.

        Args:
            x: (batch, channels, T, F).

        Returns:
            Two tensors (batch, filters, T / 2, F / 2).
        """
        skip = self.conv(functional.pad(x, (1, 2, 1, 2)))  # TensorFlow's "same" at stride 2
        return skip, self.activation(self.norm(skip))


class DecoderBlock(nn.Module):
    """Double both axes: 5x5 stride-2 transposed convolution, activation, BatchNorm, dropout."""

    def __init__(self, channels: int, filters: int, activation: Activation, *, dropout: float) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, filters, kernel_size=5, stride=2)
        self.activation = activation_of(activation)
        self.norm = nn.BatchNorm2d(filters, eps=BATCH_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, T, F) to (batch, filters, 2 T, 2 F)."""
        upsampled = self.conv(x)[:, :, 1:-2, 1:-2]
        decoded: Tensor = self.dropout(self.norm(self.activation(upsampled)))
        return decoded


class UNet(nn.Module):
    """Magnitude patches in, logits out: six blocks down, six up, a skip beside each but the last."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        down = (spec.channels, *spec.filters)
        self.encoder = nn.ModuleList(EncoderBlock(down[i], down[i + 1], spec.conv_activation) for i in range(len(spec.filters)))
        up = (*spec.filters[-2::-1], 1)  # 256 128 64 32 16 1
        inputs = (spec.filters[-1], *(2 * filters for filters in up[:-1]))  # a skip has as many channels as the block's output
        self.decoder = nn.ModuleList(
            DecoderBlock(inputs[i], up[i], spec.deconv_activation, dropout=DROPOUT if i < 3 else 0.0) for i in range(len(up))
        )
        self.head = nn.Conv2d(1, spec.channels, kernel_size=4, dilation=2, padding=3)

    def forward(self, magnitude: Tensor) -> Tensor:
        """Map magnitudes (batch, channels, T, F) to logits of the same shape."""
        x, skips = magnitude, []
        for encode in self.encoder:
            skip, x = encode(x)  # (batch, 16 .. 512, T / 2 .. T / 64, F / 2 .. F / 64)
            skips.append(skip)
        x = self.decoder[0](skips.pop())  # the bottleneck is the sixth convolution's output
        for decode in self.decoder[1:]:
            x = decode(torch.cat([skips.pop(), x], dim=1))
        logits: Tensor = self.head(x)
        return logits
