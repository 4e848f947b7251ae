"""The description of a separation model: its stems, its constants, its network's shape. Nothing is computed here.

The constants are those that the published weights were trained with; these weights separate well with no others.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeVar

SAMPLE_RATE_HZ = 44_100
CHANNELS = 2
FRAME_LENGTH = 4096  # samples: 93 ms, bins 10.8 Hz apart
HOP = 1024  # samples: 23 ms, a quarter of a frame
PATCH_FRAMES = 512  # T: 11.9 s of music, the input of a U-Net
BINS = 1024  # F: up to 11 kHz
BINS_16KHZ = 1536  # F of the 16kHz presets: up to 16.5 kHz
DOWNSAMPLING = 64  # six strided convolutions: T and F are multiples of this

_STEM = re.compile(r"[A-Za-z0-9_-]{1,60}")  # a stem's name becomes a file's name, and a column's
_NO_STEMS = ("mix", "id")

T = TypeVar("T")
Activation = Literal["LeakyReLU", "ReLU", "ELU"]
Head = Literal["sigmoid", "softmax"]
MaskExtension = Literal["zeros", "average"]

_HEADS: dict[str, Head] = {"unet.unet": "sigmoid", "unet.softmax_unet": "softmax"}
_REQUIRED = ("instrument_list", "sample_rate", "frame_length", "frame_step", "T", "F", "n_channels", "model")


class SpecError(ValueError):
    """A model description that cannot be used; the message names the field, its value and the expected one."""


@dataclass(frozen=True)
class ModelSpec:
    """One separation model.

    Attributes:
        name: Name of the model in the index.
        stems: Names of the stems, in the order of the checkpoint's U-Nets.
        sample_rate_hz: Sample rate of the waves.
        channels: Number of channels, always 2.
        frame_length: STFT frame, samples.
        hop: STFT hop, samples; a quarter of the frame.
        patch_frames: T, the frames of a U-Net's input.
        bins: F, the lowest bins of a frame, a U-Net's input.
        separation_exponent: e in mask = estimate^e / sum of estimates^e.
        mask_extension: Mask of the bins from F up: zeros, or the mean of the row's mask.
        conv_activation: Activation in the encoder.
        deconv_activation: Activation in the decoder.
        head: Sigmoid on each stem, or softmax across stems.
        filters: Output channels of the six encoder blocks.
    """

    name: str
    stems: tuple[str, ...]
    sample_rate_hz: int = SAMPLE_RATE_HZ
    channels: int = CHANNELS
    frame_length: int = FRAME_LENGTH
    hop: int = HOP
    patch_frames: int = PATCH_FRAMES
    bins: int = BINS
    separation_exponent: float = 2.0
    mask_extension: MaskExtension = "zeros"
    conv_activation: Activation = "LeakyReLU"
    deconv_activation: Activation = "ReLU"
    head: Head = "sigmoid"
    filters: tuple[int, ...] = field(default=(16, 32, 64, 128, 256, 512))

    def __post_init__(self) -> None:
        """Refuse values that the network or the STFT cannot use."""
        names, activations = ("LeakyReLU", "ReLU", "ELU"), (self.conv_activation, self.deconv_activation)
        different = len(self.stems) >= 2 and len(set(self.stems)) == len(self.stems)
        named = all(_STEM.fullmatch(stem) and stem.lower() not in _NO_STEMS for stem in self.stems)
        _check("stems", self.stems, f"names of letters, digits, _ and -, and none of {', '.join(_NO_STEMS)}", holds=named)
        _check("stems", self.stems, "two or more different names", holds=different)
        _check("channels", self.channels, "2", holds=self.channels == CHANNELS)
        _check("sample_rate_hz", self.sample_rate_hz, "a rate in Hz", holds=self.sample_rate_hz > 0)
        quarter = f"a quarter of frame_length {self.frame_length}"
        _check("hop", self.hop, quarter, holds=self.hop * 4 == self.frame_length)
        multiple = f"a positive multiple of {DOWNSAMPLING}"
        for name, size in (("patch_frames", self.patch_frames), ("bins", self.bins)):
            _check(name, size, multiple, holds=size > 0 and size % DOWNSAMPLING == 0)
        _check("bins", self.bins, f"at most {self.spectrum_bins}", holds=self.bins <= self.spectrum_bins)
        six = len(self.filters) == 6 and min(self.filters) > 0
        _check("filters", self.filters, "six positive numbers", holds=six)
        exponent = self.separation_exponent
        _check("separation_exponent", exponent, "a positive number", holds=exponent > 0)
        extends = self.mask_extension in ("zeros", "average")
        _check("mask_extension", self.mask_extension, "zeros or average", holds=extends)
        _check("head", self.head, "sigmoid or softmax", holds=self.head in ("sigmoid", "softmax"))
        _check("activations", activations, " or ".join(names), holds=all(activation in names for activation in activations))

    @property
    def spectrum_bins(self) -> int:
        """Number of bins of a whole spectrum: frame_length / 2 + 1."""
        return self.frame_length // 2 + 1

    @property
    def kept_bins(self) -> int:
        """Number of bins in which a stem can have energy: F, or all where the mask is extended."""
        return self.bins if self.mask_extension == "zeros" else self.spectrum_bins

    @property
    def patch_samples(self) -> int:
        """Number of samples from one patch's start to the next one's."""
        return self.patch_frames * self.hop

    @property
    def patch_wave_samples(self) -> int:
        """Number of samples that the frames of a patch cover; those after `patch_samples` are the next patch's too."""
        return self.patch_samples + self.frame_length - self.hop

    @classmethod
    def from_spleeter(cls, config: Mapping[str, Any], *, name: str) -> Self:
        """Read Spleeter's own JSON configuration.

        Args:
            config: The parsed file, as in Spleeter's `configs/` folder.
            name: Name of the model in the index.

        Raises:
            SpecError: A field is missing or has a value that this network does not support.

        Source: Spleeter's `spleeter/model/__init__.py` and `functions/unet.py` (defaults of the parameters).
        """
        missing = [key for key in _REQUIRED if key not in config]
        _check("configuration", f"no {', '.join(missing)}", f"the fields {', '.join(_REQUIRED)}", holds=not missing)
        network = config["model"]
        kind = network.get("type") if isinstance(network, Mapping) else None
        _check("model.type", kind or network, " or ".join(_HEADS), holds=isinstance(kind, str) and kind in _HEADS)
        params = network.get("params", {})
        _check("model.params", params, "a mapping", holds=isinstance(params, Mapping))
        return cls(
            name=name,
            stems=_field(config, "instrument_list", _texts),
            sample_rate_hz=_field(config, "sample_rate", int),
            channels=_field(config, "n_channels", int),
            frame_length=_field(config, "frame_length", int),
            hop=_field(config, "frame_step", int),
            patch_frames=_field(config, "T", int),
            bins=_field(config, "F", int),
            separation_exponent=_field(config, "separation_exponent", float, 2.0),
            mask_extension=config.get("mask_extension", "zeros"),
            conv_activation=params.get("conv_activation", "LeakyReLU"),
            deconv_activation=params.get("deconv_activation", "ReLU"),
            head=_HEADS[str(kind)],
            filters=_field(params, "conv_n_filters", _numbers, (16, 32, 64, 128, 256, 512)),
        )

    def to_json(self) -> str:
        """Return the spec as one JSON line with sorted keys: same spec, same text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the spec that `to_json` returned as text.

        Raises:
            SpecError: The text is not JSON, or does not have a model's fields.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            for name in ("stems", "filters"):
                fields[name] = tuple(fields[name])
            return cls(**fields)
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise SpecError(f"model description: {error}") from error


def _field(source: Mapping[str, Any], key: str, read: Callable[[Any], T], default: Any = None) -> T:
    value = source.get(key, default)
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{key}: found {value!r} ({error})") from error


def _texts(values: list[object]) -> tuple[str, ...]:
    return tuple(map(str, values))


def _numbers(values: list[Any]) -> tuple[int, ...]:
    return tuple(map(int, values))


def _check(name: str, value: object, expected: str, *, holds: bool) -> None:
    if not holds:
        raise SpecError(f"{name}: found {value}, expected {expected}")


def _presets() -> dict[str, ModelSpec]:
    elu: dict[str, Any] = {"conv_activation": "ELU", "deconv_activation": "ELU"}
    four = ("vocals", "drums", "bass", "other")
    five = ("vocals", "piano", "drums", "bass", "other")
    trained = [
        ModelSpec("spleeter:2stems", ("vocals", "accompaniment")),
        ModelSpec("spleeter:4stems", four, **elu),
        ModelSpec("spleeter:5stems", five, head="softmax", **elu),
    ]
    wider = [dataclasses.replace(spec, name=f"{spec.name}-16kHz", bins=BINS_16KHZ) for spec in trained]
    return {spec.name: spec for spec in trained + wider}


PRESETS = _presets()
