"""What an export's formats have in common: a writer takes excerpts one by one, and leaves a shard's files on this machine.

Each format is in a file of its own, which imports the format's library; none is imported before it is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from sep_batch.pipeline import errors, extras
from sep_batch.pipeline.export import columns
from sep_batch.pipeline.export.cutting import Cut
from sep_batch.pipeline.export.settings import ExportSettings

EXTRA = "export"
LIBRARIES = {"webdataset": "webdataset", "hf": "datasets", "lhotse": "lhotse"}  # of that extra, by --to


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
class Place:
    """Where a shard is written, and how.

    Attributes:
        folder: Of this machine, its own.
        split: Its split.
        number: Of the shard, in the split.
        settings: Of the export.
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


def refuse_missing(to: str) -> None:
    """Refuse a format whose library is not installed.

    Raises:
        NotRunnableError: Says how to install it.
    """
    library = LIBRARIES.get(to)
    if library and find_spec(library) is None:
        raise errors.NotRunnableError(f"--to {to}: the package {library} is missing; {extras.to_install(EXTRA)}")


def writer(place: Place) -> Writer:
    """Return what writes a shard."""
    to = place.settings.to
    if to == "webdataset":
        from sep_batch.pipeline.export.formats.webdataset import Tar

        return Tar(place)
    if to == "lhotse":
        from sep_batch.pipeline.export.formats.lhotse import Shar

        return Shar(place)
    if to == "musdb":
        from sep_batch.pipeline.export.formats.musdb import Folders

        return Folders(place)
    from sep_batch.pipeline.export.formats.parquet import Table

    return Table(place)


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
