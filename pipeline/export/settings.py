"""All that decides an export's bytes, beside OUT itself; and what every worker of it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from sep_batch.pipeline.audio import activity, codecs
from sep_batch.pipeline.audio.downmix import DEFAULT_DOWNMIX, Downmix
from sep_batch.pipeline.storage import Options

Format = Literal["webdataset", "hf", "lhotse", "musdb", "parquet"]
MUSDB_STEMS = ("bass", "drums", "other", "vocals")
MIX = "mix"
RULES = 2
ACTIVITY = {
    "window_s": 1 / activity.WINDOWS_PER_S,
    "on_dbfs": activity.ON_DBFS,
    "off_dbfs": activity.OFF_DBFS,
    "shortest_gap_s": activity.SHORTEST_GAP_S,
    "shortest_region_s": activity.SHORTEST_REGION_S,
}


class ExportSettings(BaseModel):
    """What decides an export's bytes.

    Attributes:
        to: The form of what is written.
        where: An SQL condition over the index's columns.
        stems: Those written, in the model's order.
        excerpt_s: Length of an excerpt; None writes whole tracks.
        hop_s: From one excerpt's begin to the next one's.
        min_active: Smallest share of an excerpt in which a stem is active, by stem.
        sample_rate_hz: None is the stems' own.
        mono: One channel, the mean of the two.
        codec: Name of one of `codecs.CODECS`.
        splits: Shares by name.
        group_by: The index's column whose values are in one split only.
        shard_size: Excerpts a shard, or tracks, at most.
        seed: Seed of splits and order.
        with_mix: Whether the mix is written too, as the sources have it.
        limit: Only so many tracks.
        activity: Rule by which a stem is active.
        rules: By which columns are named and groups told; exports of before there were numbers have none.
        index_sha256: Of the index's rows, as far as the export reads them.
    """

    model_config = ConfigDict(frozen=True)

    to: Format
    where: str | None
    stems: tuple[str, ...]
    excerpt_s: float | None
    hop_s: float | None
    min_active: dict[str, float]
    sample_rate_hz: int | None
    mono: bool
    codec: str
    splits: dict[str, float]
    group_by: str | None
    shard_size: int
    seed: int
    with_mix: bool
    limit: int | None
    activity: dict[str, float] = ACTIVITY
    rules: int = RULES
    index_sha256: str = ""

    @property
    def packing(self) -> codecs.Codec:
        """How a wave is written."""
        return codecs.CODECS[self.codec]["" if codecs.is_lossy(self.codec) else "16"]

    @property
    def bitrate(self) -> int | None:
        """Bits per second of a lossy codec."""
        return codecs.DEFAULT_BITRATE if codecs.is_lossy(self.codec) else None

    @property
    def waves(self) -> tuple[str, ...]:
        """What is written of each excerpt: the stems, and the mix where it was asked for."""
        return (*self.stems, MIX) if self.with_mix else self.stems

    def canonical(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values

    def differing(self, other: dict[str, Any]) -> list[str]:
        """Return the names of the settings that another export's `canonical` has otherwise."""
        ours = self.canonical()
        return sorted(name for name in ours.keys() | other.keys() if ours.get(name) != other.get(name))

    def at(self, index_sha256: str) -> Self:
        """Return the same of these rows of the index."""
        return self.model_copy(update={"index_sha256": index_sha256})


@dataclass(frozen=True)
class Export:
    """What every worker of an export is told.

    Attributes:
        settings: Settings that decide the bytes.
        out: OUT, absolute.
        dest: DEST, absolute.
        scratch: Folder of this machine for shards that are being written; where DEST is on a disk, on the same one.
        downmix: How OUT's sources of more than two channels became stereo.
        extra: The manifest's own columns, by Arrow's schema, serialised.
        renamed: Name in the dataset by name in the index, of columns whose two names differ.
        storage: How storage is reached; it may hold secrets, so it is never shown.
    """

    settings: ExportSettings
    out: str
    dest: str
    scratch: str
    downmix: Downmix = DEFAULT_DOWNMIX
    extra: bytes = b""
    renamed: Mapping[str, str] = field(default_factory=dict)
    storage: Options = field(default_factory=dict, repr=False)
