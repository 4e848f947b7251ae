"""Settings: all that changes the audio, and nothing else. Their sha256 tells whether a track is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from sep_batch.model.spec import ModelSpec
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.downmix import DEFAULT_DOWNMIX, Downmix
from sep_batch.pipeline.audio.resample import resampled
from sep_batch.pipeline.stem_paths import DEFAULT_FILENAME

_YOUNGER = ("sample_rate_hz", "mono", "downmix")
Precision = Literal["float32", "tf32", "bfloat16", "float16"]  # the names of model/separator.py, which needs torch


class Settings(BaseModel):
    """What changes the audio. GPUs, pools and batches are not settings."""

    model_config = ConfigDict(frozen=True)

    weights_sha256: str
    spec: ModelSpec
    stems: tuple[str, ...]
    format: str = "flac"
    bit_depth: Literal["16", "24", "float"] = "16"
    bitrate: int | None = None
    filename: str = DEFAULT_FILENAME
    offset_s: float = 0.0
    duration_s: float | None = None
    precision: Precision = "float32"
    sample_rate_hz: int | None = None
    mono: bool = False
    downmix: Downmix = DEFAULT_DOWNMIX

    @property
    def codec(self) -> codecs.Codec:
        """How a stem is written."""
        return codecs.CODECS[self.format]["" if codecs.is_lossy(self.format) else self.bit_depth]

    @property
    def written_rate_hz(self) -> int:
        """The rate that stems are written at."""
        return self.sample_rate_hz or self.codec.rate_for(self.spec.sample_rate_hz)

    @property
    def written_channels(self) -> int:
        """How many channels stems are written with."""
        return 1 if self.mono else self.spec.channels

    def written_frames(self, samples: int) -> int:
        """Return how many samples a channel are written of a stem of so many."""
        return resampled(samples, self.spec.sample_rate_hz, self.written_rate_hz)

    @property
    def is_reshaped(self) -> bool:
        """Whether stems are written at another rate, or with other channels, than they are separated with."""
        return (self.written_rate_hz, self.written_channels) != (self.spec.sample_rate_hz, self.spec.channels)

    @property
    def form(self) -> codecs.Codec:
        """In whose form stems travel to where they are written: the codec's, and as floats where they are reshaped there."""
        return codecs.FLOAT if self.is_reshaped else self.codec

    def canonical(self) -> dict[str, Any]:
        """Return the settings as plain JSON values: what is younger than the first OUTs only where it is used."""
        values: dict[str, Any] = self.model_dump(mode="json")
        younger = {name for name in _YOUNGER if values[name] == type(self).model_fields[name].default}
        return {name: value for name, value in values.items() if name not in younger}

    @property
    def sha256(self) -> str:
        """Hash the settings: the same on every machine."""
        return sha256_of(self.canonical())

    def differing(self, other: dict[str, Any]) -> list[str]:
        """Return the names of the settings that differ, spec fields as `spec.name`."""
        return sorted(self.differences(other))

    def differences(self, other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return of each setting that differs its name, spec fields as `spec.name`, and both values: the other's, ours."""
        ours = self.model_dump(mode="json")
        return _differences(ours, {name: type(self).model_fields[name].default for name in _YOUNGER} | other)

    @classmethod
    def load(cls, values: dict[str, Any]) -> Self:
        """Read what `canonical` gave."""
        return cls.model_validate(values)


def sha256_of(canonical: Mapping[str, Any]) -> str:
    """Hash settings as `canonical` gives them, be they of another version of this program."""
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()


def _differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    differences: dict[str, tuple[Any, Any]] = {}
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            differences |= _differences(mine, other, f"{prefix}{key}.")
        elif mine != other:
            differences[prefix + key] = other, mine
    return differences
