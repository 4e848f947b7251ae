"""Excerpts and shards, the input of every format's writer; a writer leaves a shard's files on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from sep_batch.pipeline.export import columns
from sep_batch.pipeline.export.cutting import Cut
from sep_batch.pipeline.export.settings import ExportSettings


@dataclass(frozen=True)
class Excerpt:
    """One excerpt, or a whole track, as a writer takes it.

    Attributes:
        key: Its name, unique in the export.
        track: The track's id.
        name: Name of the track's folder.
        cut: The encoded files, with their position, length and activity.
        extra: Values of the manifest's columns, by their names in the dataset.
    """

    key: str
    track: str
    name: str
    cut: Cut
    extra: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """Return its values of the columns that every format has: those of `columns.py`."""
        cut = self.cut
        values = {"id": self.track, "start_s": cut.start_s, "seconds": cut.seconds, "sample_rate_hz": cut.rate_hz}
        return {"key": self.key} | values | {columns.active(stem): share for stem, share in cut.active.items()}


@dataclass(frozen=True)
class ShardFolder:
    """A shard to write: where, and with which settings.

    Attributes:
        folder: Local folder for this shard alone.
        split: Its split.
        number: Number of the shard in its split.
        settings: Settings of the export.
        extra: Schema of the manifest's columns.
    """

    folder: Path
    split: str
    number: int
    settings: ExportSettings
    extra: pa.Schema

    def path(self, name: str) -> Path:
        """Return the local path of a file of the shard."""
        return self.folder / name


class Writer(Protocol):
    """Writes one shard."""

    def add(self, excerpt: Excerpt) -> None:
        """Add the next excerpt."""

    def close(self) -> dict[str, Path]:
        """End the shard; return its files, by their paths in DEST; the file that readers look for comes last."""


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: NaN and Inf become null, bytes become hex, other unsupported values text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
