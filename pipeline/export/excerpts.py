"""The plan of an export: excerpts of tracks, laid out in splits and shards; a shard is the unit of work.

The plan is a pure function of the index's rows, in their order, and the settings. The index's activity is a first filter, wide
enough to keep every excerpt that its own audio may let pass.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sep_batch.pipeline.export import splits
from sep_batch.pipeline.export.settings import ExportSettings

EDGE_S = 0.5  # by which regions of the index may differ from those of an excerpt's own audio: the longest gap that is filled
_SLACK = 1e-6  # for seconds that are no binary fractions

Planned = Callable[[Mapping[str, Any], ExportSettings], dict[str, Any]]
STEM = pa.struct(
    [("stem", pa.string()), ("uri", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string()), ("active_ratio", pa.float32())]
)


@dataclass
class Amounts:
    """Amounts of an export, from its plan.

    Attributes:
        tracks: Number of chosen tracks.
        short: Number of chosen tracks that are shorter than an excerpt.
        longest_s: Length of the longest chosen track, in seconds.
        excerpts: Number of whole excerpts that these tracks have.
        planned: Number of excerpts that pass the first filter; in an export of whole tracks, of tracks.
        shards: Number of shards that these are laid out in.
        sha256: SHA-256 of everything that the export reads from the index.
    """

    tracks: int = 0
    short: int = 0
    longest_s: float = 0.0
    excerpts: int = 0
    planned: int = 0
    shards: int = 0
    sha256: str = ""


def schema(extra: pa.Schema) -> pa.Schema:
    """Return the schema of a plan's file: one row a shard."""
    fields = [
        ("id", pa.string()),
        ("uri", pa.string()),  # the source's
        ("offset_s", pa.float64()),  # in the source
        ("source_bytes", pa.int64()),
        ("source_etag", pa.string()),
        ("source_stream", pa.int32()),
        ("decode_rules", pa.int32()),
        ("rate_hz", pa.int32()),  # of the stems
        ("seconds", pa.float64()),  # of the stems, to their last sample
        ("stems", pa.list_(STEM)),
        ("name", pa.string()),  # of its folder, in a format with one folder per track
        ("numbers", pa.list_(pa.int32())),  # of its excerpts; the n-th begins n hops after the track
    ]
    track = pa.struct([*fields, ("extra", pa.struct(list(extra)))] if len(extra) else fields)
    return pa.schema([("split", pa.string()), ("shard", pa.int64()), ("tracks", pa.list_(track))])


def lay_out(
    rows: Iterable[Mapping[str, Any]], settings: ExportSettings, planned: Planned | None = None
) -> Iterator[dict[str, Any]]:
    """Lay an export out: yield its shards, as rows of `schema`, each split's numbered from 0.

    Args:
        rows: Rows of the index, as selection.py gives them, in the order in which they are laid out.
        settings: Settings of the export.
        planned: Returns a track's fields in the plan; by default those that a worker reads.
    """
    planned = planned or _planned
    bounds = splits.bounds_of(settings.splits)
    begun: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in bounds}
    numbers = dict.fromkeys(begun, 0)

    def shard(split: str) -> dict[str, Any]:
        laid = {"split": split, "shard": numbers[split], "tracks": begun[split]}
        begun[split], numbers[split] = [], numbers[split] + 1
        return laid

    for row in rows:
        split = splits.split_of(splits.group_of(row["id"], row["group"]), settings.seed, bounds)
        for share in _shares(planned(row, settings), _candidates(row, settings), settings, begun, split):
            begun[split].append(share)
            if _size(begun[split], settings) == settings.shard_size:
                yield shard(split)
    for split, tracks in begun.items():
        if tracks:
            yield shard(split)


def _planned(row: Mapping[str, Any], settings: ExportSettings) -> dict[str, Any]:
    """Return the fields of a track that a worker reads, and no others: their hash shows an index that differs."""
    read = {*settings.stems, *settings.min_active}
    kinds = [field.name for field in STEM if field.name != "active_ratio" or settings.excerpt_s is None]
    stems = [{name: stem.get(name) for name in kinds} for stem in row["stems"] if stem["stem"] in read]
    names = ["id", "name" if settings.to == "musdb" else "extra"]
    if settings.with_mix:
        names += ["uri", "offset_s", "source_bytes", "source_etag", "source_stream", "decode_rules"]
    rate, kept = rate_hz(row), {name: row[name] for name in names if name in row}
    return kept | {"stems": stems, "seconds": row["stems"][0]["frames"] / rate, "rate_hz": rate}


def _planned_before(row: Mapping[str, Any], _settings: ExportSettings) -> dict[str, Any]:
    """Return the fields of a track that were hashed before `ExportSettings.rules` had a number."""
    stems = [{field.name: stem.get(field.name) for field in STEM} for stem in row["stems"]]
    kept = {name: row[name] for name in ("id", "uri", "offset_s", "source_bytes", "name", "extra") if name in row}
    kept |= {name: row[name] for name in ("source_stream", "decode_rules") if row.get(name) is not None}
    rate = rate_hz(row)
    return kept | {"stems": stems, "seconds": row["stems"][0]["frames"] / rate, "rate_hz": rate}


def _shares(
    track: dict[str, Any], numbers: Sequence[int] | None, settings: ExportSettings, begun: Mapping[str, list[Any]], split: str
) -> Iterator[dict[str, Any]]:
    """Yield a track's excerpts, divided where a shard is full; a whole track is not divided."""
    if numbers is None:
        yield track | {"numbers": []}
        return
    while numbers:
        room = settings.shard_size - _size(begun[split], settings)
        yield track | {"numbers": list(numbers[:room])}
        numbers = numbers[room:]


def _size(tracks: Sequence[Mapping[str, Any]], settings: ExportSettings) -> int:
    return len(tracks) if settings.excerpt_s is None else sum(len(track["numbers"]) for track in tracks)


def rate_hz(row: Mapping[str, Any]) -> int:
    """Return the sample rate of a track's stems; from frames and duration if an older row has none."""
    stem = row["stems"][0]
    rate: int = stem.get("sample_rate_hz") or round(stem["frames"] / row["audio_s"])
    return rate


def count(seconds: float, excerpt_s: float, hop_s: float) -> int:
    """Return the number of whole excerpts of a track."""
    return max(0, math.floor((seconds - excerpt_s) / hop_s + _SLACK) + 1)


def _candidates(row: Mapping[str, Any], settings: ExportSettings) -> list[int] | None:
    """Return the numbers of the excerpts that may satisfy the condition; None if whole tracks are exported."""
    if settings.excerpt_s is None or settings.hop_s is None:
        return None
    numbers = range(count(row["audio_s"], settings.excerpt_s, settings.hop_s))
    regions_of = {stem["stem"]: stem.get("active_regions") for stem in row["stems"]}
    begins, keep = np.arange(len(numbers)) * settings.hop_s, np.ones(len(numbers), bool)
    for stem, share in settings.min_active.items():
        if (regions := regions_of.get(stem)) is not None:
            active = _active_before(widened(regions))
            keep &= active(begins + settings.excerpt_s) - active(begins) >= (share - _SLACK) * settings.excerpt_s
    return [int(number) for number in np.flatnonzero(keep)]


def widened(regions: Sequence[Mapping[str, float]]) -> list[tuple[float, float]]:
    """Return regions widened by `EDGE_S` at both ends; those that then touch are merged."""
    merged: list[tuple[float, float]] = []
    for region in regions:
        start, end = region["start_s"] - EDGE_S, region["end_s"] + EDGE_S
        if merged and start <= merged[-1][1]:
            start = merged.pop()[0]
        merged.append((start, end))
    return merged


def _active_before(regions: Sequence[tuple[float, float]]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that gives the active seconds before each of some points in time."""
    edges = np.array([edge for region in regions for edge in region] or [0.0])
    lengths = np.diff(edges, prepend=edges[0])
    lengths[::2] = 0  # from one region's end to the next one's start
    return lambda times: np.interp(times, edges, np.cumsum(lengths))


def amounts(rows: Iterable[Mapping[str, Any]], extra: pa.Schema, settings: ExportSettings) -> Amounts:
    """Lay an export out once, without holding it, and return its amounts.

    Args:
        rows: Rows of the index, as `lay_out` takes them.
        extra: The manifest's columns; a new type of one changes what is written.
        settings: Settings of the export.
    """
    result = Amounts()
    shards = lay_out(_counted(rows, settings, result), settings)
    begun = "" if settings.to == "musdb" else "\n".join(f"{field.name!r} {field.type}" for field in extra)
    result.sha256, result.shards, result.planned = _hashed(begun, shards)
    return result


def sha256_of_before(rows: Iterable[Mapping[str, Any]], settings: ExportSettings) -> str:
    """Return the sha256 that was made before `ExportSettings.rules` had a number."""
    return _hashed("", lay_out(rows, settings, _planned_before))[0]


def _counted(rows: Iterable[Mapping[str, Any]], settings: ExportSettings, result: Amounts) -> Iterator[Mapping[str, Any]]:
    """Yield the rows, and count them in `result`."""
    for row in rows:
        result.tracks += 1
        result.longest_s = max(result.longest_s, row["audio_s"])
        if settings.excerpt_s is not None and settings.hop_s is not None:
            number = count(row["audio_s"], settings.excerpt_s, settings.hop_s)
            result.excerpts += number
            result.short += not number
        yield row


def _hashed(begun: str, shards: Iterable[Mapping[str, Any]]) -> tuple[str, int, int]:
    """Hash a plan; return the sha256, the number of its shards, and that of its excerpts or whole tracks."""
    digest, number, planned = hashlib.sha256(begun.encode()), 0, 0
    for shard in shards:
        digest.update(json.dumps(shard, sort_keys=True, default=str).encode())
        number += 1
        planned += sum(len(track["numbers"]) or 1 for track in shard["tracks"])
    return digest.hexdigest(), number, planned
