"""Durations and file sizes of the journal, used to estimate the remaining work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.settings import Settings, sha256_of

_SOUND = ("offset_s", "duration_s")  # settings that change the duration of a track
_PACKED = ("format", "bit_depth", "bitrate", "sample_rate_hz", "mono")  # settings that change the size of its stems
_STEMS = """
    SELECT sum(s.bytes), sum(s.frames)
    FROM (SELECT unnest(stems) AS s FROM newest WHERE status = 'ok' AND settings_sha256 = $made)
"""
_LENGTHS = """
    SELECT place, newest.audio_s FROM newest JOIN todo ON newest.id = todo.id AND newest.uri = todo.uri
    WHERE settings_sha256 = $made AND audio_s > 0 AND offset_s IS NULL AND duration_s IS NULL
"""
_RATES = """
    SELECT lower(regexp_extract(uri, '[.]([A-Za-z0-9]+)$', 1)), sum(source_bytes) / sum(audio_s) FROM newest
    WHERE status = 'ok' AND settings_sha256 = $made AND offset_s IS NULL AND duration_s IS NULL AND source_bytes > 0
    GROUP BY 1
"""


@dataclass(frozen=True)
class KnownSizes:
    """Durations and sizes that earlier runs measured.

    Attributes:
        seconds: Duration of each whole track that is left to do, (tracks,), NaN where unknown; None where all are unknown.
        source_bytes_s: Bytes a second, by the source's extension.
        stem_bytes_frame: Bytes per sample of all channels, of stems with this plan's settings; None where there are none.
    """

    seconds: np.ndarray | None = None
    source_bytes_s: Mapping[str, float] = field(default_factory=dict)
    stem_bytes_frame: float | None = None


def past(journal: JournalDatabase, todo: pa.Table, settings: Settings, before: Mapping[str, Any] | None) -> KnownSizes:
    """Read durations and sizes from OUT's journal.

    Args:
        journal: OUT's journal, open.
        todo: Tracks that are left to do.
        settings: Settings of the plan.
        before: Settings of OUT's last run; rows with other settings are ignored, since their offset and duration are unknown.
    """
    if before is None:
        return KnownSizes()
    database, made = journal.database, {"made": sha256_of(before)}
    database.register("todo", todo.select(["id", "uri"]).append_column("place", pa.array(np.arange(todo.num_rows))))

    def query(sql: str) -> list[tuple[Any, ...]]:
        return list(database.sql(sql, params=made).fetchall())

    ratio = None
    if all(before.get(name) == settings.canonical().get(name) for name in _PACKED):
        ((bytes_, frames),) = query(_STEMS)
        ratio = bytes_ / frames if frames else None
    if any(before.get(name) != Settings.model_fields[name].default for name in _SOUND):
        return KnownSizes(stem_bytes_frame=ratio)
    seconds = np.full(todo.num_rows, np.nan)
    for batch in database.sql(_LENGTHS, params=made).to_arrow_reader():
        seconds[batch["place"]] = batch["audio_s"]
    return KnownSizes(seconds, dict(query(_RATES)), ratio)
