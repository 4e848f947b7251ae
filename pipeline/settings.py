"""Settings: everything that changes the stems, and nothing else. A track is done where their sha256 is that of its row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from sep_batch.model.spec import MaskExtension, ModelSpec
from sep_batch.pipeline import stem_paths
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.downmix import DEFAULT_DOWNMIX, Downmix
from sep_batch.pipeline.audio.resample import resampled

_ADDED_LATER = (
    "sample_rate_hz",
    "mono",
    "downmix",
    "root",
    "residual",
    "mask_extension",
    "mwf",
    "write_mix",
    "copy_tags",
    "tag_provenance",
)  # settings that the first OUTs did not have
MIX = "mix"  # no stem of a model has this name
Precision = Literal["float32", "tf32", "bfloat16", "float16"]  # the names of model/separator.py, which needs torch


class Settings(BaseModel):
    """Everything that changes the stems. GPUs, pools and batches are not settings."""

    model_config = ConfigDict(frozen=True)

    weights_sha256: str
    spec: ModelSpec
    stems: tuple[str, ...]
    format: str = "flac"
    bit_depth: Literal["16", "24", "float"] = "16"
    bitrate: int | None = None
    filename: str = stem_paths.DEFAULT_FILENAME
    root: str | None = None  # of {reldir} in `filename`
    offset_s: float = 0.0
    duration_s: float | None = None
    precision: Precision = "float32"
    sample_rate_hz: int | None = None
    mono: bool = False
    downmix: Downmix = DEFAULT_DOWNMIX
    residual: str | None = None  # name of a further stem, the mix minus all others
    mask_extension: MaskExtension | None = None  # that replaced the model's own in `spec`
    mwf: bool = False  # filtered with the multichannel Wiener filter, in place of the ratio masks
    write_mix: bool = False  # as a further stem, after the residual
    copy_tags: bool = False  # of the source, with its cover
    tag_provenance: bool = False  # id, model, weights and stem as tags

    @property
    def needs_wave(self) -> bool:
        """Separate needs the wave of a track, not only its spectrum."""
        return self.residual is not None or self.mwf or self.write_mix

    @property
    def written_stems(self) -> tuple[str, ...]:
        """Names of the stems that are written: the model's, the residual, the mix."""
        return (*stems_of_mix(self.stems, self.residual), *([MIX] if self.write_mix else []))

    @property
    def codec(self) -> codecs.Codec:
        """Codec of the stems' files."""
        return codecs.CODECS[self.format]["" if codecs.is_lossy(self.format) else self.bit_depth]

    @property
    def written_rate_hz(self) -> int:
        """Sample rate of the stems' files."""
        return self.sample_rate_hz or self.codec.rate_for(self.spec.sample_rate_hz)

    @property
    def written_channels(self) -> int:
        """Number of channels of the stems' files."""
        return 1 if self.mono else self.spec.channels

    def written_frames(self, samples: int) -> int:
        """Return the samples per channel of the file of a stem with `samples` samples per channel."""
        return resampled(samples, self.spec.sample_rate_hz, self.written_rate_hz)

    @property
    def is_reshaped(self) -> bool:
        """Stems are written at another sample rate, or with other channels, than they are separated with."""
        return (self.written_rate_hz, self.written_channels) != (self.spec.sample_rate_hz, self.spec.channels)

    @property
    def form(self) -> codecs.Codec:
        """Sample format of stems between Separate and Write: the codec's, or floats where Write reshapes them."""
        return codecs.FLOAT if self.is_reshaped else self.codec

    def stem_path(self, id: str, uri: str, stem: str, *, is_marked: bool = False) -> str:
        """Return the path of a track's stem, relative to OUT.

        Args:
            id: Id of the track.
            uri: URI of the track's source.
            stem: Name of the stem.
            is_marked: Without a mark, another track would have the same path.
        """
        mark = stem_paths.mark(id) if is_marked else ""
        return stem_paths.render(self.filename, id, uri, stem, self.format, root=self.root, model=self.spec.name, mark=mark)

    def first_stem_path(self, id: str, uri: str) -> str:
        """Return the path of a track's first stem: two tracks share it if they share any."""
        return self.stem_path(id, uri, self.stems[0])

    def canonical(self) -> dict[str, Any]:
        """Return the settings as plain JSON values; without unused settings that the first OUTs did not have."""
        values: dict[str, Any] = self.model_dump(mode="json")
        unused = {name for name in _ADDED_LATER if values[name] == type(self).model_fields[name].default}
        return {name: value for name, value in values.items() if name not in unused}

    @property
    def sha256(self) -> str:
        """Hash the settings: the same on every machine."""
        return sha256_of(self.canonical())

    def differing(self, other: dict[str, Any]) -> list[str]:
        """Return the names of the settings that differ, spec fields as `spec.name`."""
        return sorted(self.differences(other))

    def differences(self, other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ, spec fields as `spec.name`, with both values: the other's, this one's."""
        values = self.model_dump(mode="json")
        return _differences(values, {name: type(self).model_fields[name].default for name in _ADDED_LATER} | other)

    @classmethod
    def load(cls, values: dict[str, Any]) -> Self:
        """Return the settings that `canonical` returned as values."""
        return cls.model_validate(values)


def stems_of_mix(stems: Sequence[str], residual: str | None) -> tuple[str, ...]:
    """Return the names of the stems that add up to the mix: the model's, then the residual."""
    return (*stems, *([residual] if residual else []))


def sha256_of(canonical: Mapping[str, Any]) -> str:
    """Hash settings as `canonical` returns them, also those of another version of this program."""
    return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()


def _differences(values: dict[str, Any], others: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    differences: dict[str, tuple[Any, Any]] = {}
    for key in sorted(values.keys() | others.keys()):
        value, other = values.get(key), others.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            differences |= _differences(value, other, f"{prefix}{key}.")
        elif value != other:
            differences[prefix + key] = other, value
    return differences
