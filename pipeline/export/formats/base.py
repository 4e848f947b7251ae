"""Excerpts and shards as every format's writer takes them; a writer leaves a shard's files on this machine."""

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
        key: Its name, which no other has in the export.
        track: The track's id.
        name: The track's, for a folder.
        cut: The encoded files, and what is known of them.
        extra: The manifest's own columns, none of which has the name of another.
    """

    key: str
    track: str
    name: str
    cut: Cut
    extra: Mapping[str, Any]

    def described(self) -> dict[str, Any]:
        """Return what is known of it, in the columns that every format has: those of `columns.py`."""
        cut = self.cut
        known = {"id": self.track, "start_s": cut.start_s, "seconds": cut.seconds, "sample_rate_hz": cut.rate_hz}
        return {"key": self.key} | known | {columns.active(stem): share for stem, share in cut.active.items()}


@dataclass(frozen=True)
class ShardFolder:
    """Where a shard is written, and how.

    Attributes:
        folder: Folder of this machine for this shard alone.
        split: Its split.
        number: Number of the shard in its split.
        settings: Settings of the export.
        extra: The manifest's own columns.
    """

    folder: Path
    split: str
    number: int
    settings: ExportSettings
    extra: pa.Schema

    def path(self, name: str) -> Path:
        """Return where a file of the shard is written."""
        return self.folder / name


class Writer(Protocol):
    """Writes one shard."""

    def add(self, excerpt: Excerpt) -> None:
        """Take the next excerpt."""

    def close(self) -> dict[str, Path]:
        """End the shard; return its files, by their paths in DEST, the one that readers look for last."""


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: NaN and Inf as null, bytes in hex, all else that it has no form for as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
