"""Settings that decide an export's bytes, besides OUT itself; and the configuration of its workers."""

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
    """Settings that decide an export's bytes.

    Attributes:
        to: Format of the dataset.
        where: An SQL condition over the index's columns.
        stems: Stems to write, in the model's order.
        excerpt_s: Length of an excerpt, in seconds; None writes whole tracks.
        hop_s: Seconds from the beginning of one excerpt to that of the next.
        min_active: Smallest share of an excerpt in which a stem has to be active, by stem.
        sample_rate_hz: Sample rate; None keeps the stems' own.
        mono: One channel, the mean of the two.
        codec: Name of one of `codecs.CODECS`.
        splits: Shares of the splits, by name.
        group_by: The index's column whose values are in one split only.
        shard_size: Number of excerpts, or whole tracks, per shard at most.
        seed: Seed of splits and order.
        with_mix: Write the mix too, read from the sources.
        limit: Number of tracks at most.
        activity: Rule by which a stem is active.
        rules: Number of the rules that name columns and form groups; older exports have none.
        index_sha256: SHA-256 of everything that the export reads from the index.
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
        """Codec of the waves."""
        return codecs.CODECS[self.codec]["" if codecs.is_lossy(self.codec) else "16"]

    @property
    def bitrate(self) -> int | None:
        """Bits per second of a lossy codec."""
        return codecs.DEFAULT_BITRATE if codecs.is_lossy(self.codec) else None

    @property
    def waves(self) -> tuple[str, ...]:
        """Names of an excerpt's waves: the stems, and the mix if it is written."""
        return (*self.stems, MIX) if self.with_mix else self.stems

    def canonical(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values

    def differing(self, other: dict[str, Any]) -> list[str]:
        """Return the names of the settings that differ from another export's `canonical`."""
        ours = self.canonical()
        return sorted(name for name in ours.keys() | other.keys() if ours.get(name) != other.get(name))

    def at(self, index_sha256: str) -> Self:
        """Return the settings for these rows of the index."""
        return self.model_copy(update={"index_sha256": index_sha256})


@dataclass(frozen=True)
class Export:
    """Configuration of every worker of an export.

    Attributes:
        settings: Settings that decide the bytes.
        out: OUT, absolute.
        dest: DEST, absolute.
        scratch: Local folder for shards that are being written; on DEST's disk if DEST is on a disk.
        downmix: Downmix of OUT's sources of more than two channels.
        extra: Arrow schema of the manifest's columns, serialised.
        renamed: Name in the dataset by name in the index, for columns whose two names differ.
        storage: Storage options; they may hold secrets, so they are never shown.
    """

    settings: ExportSettings
    out: str
    dest: str
    scratch: str
    downmix: Downmix = DEFAULT_DOWNMIX
    extra: bytes = b""
    renamed: Mapping[str, str] = field(default_factory=dict)
    storage: Options = field(default_factory=dict, repr=False)
