"""The plan: of the manifest's tracks, those that are left to do, and why; on its way to the flow a file a block of tracks."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import storage
from sep_batch.pipeline.rows import TRACK

MAX_ATTEMPTS = 3  # over all runs, of a transient failure
PLAN_BLOCK_ROWS = 64
Retry = Literal["none", "transient", "all"]
Reason = Literal["new", "source_changed", "settings_differ", "failed_before", "deleted", "done", "known_failed"]

_SETTLED: tuple[Reason, ...] = ("done", "known_failed")  # what is not done again
_SOURCE = ("uri", "offset_s", "duration_s", "source_etag")


@dataclass(frozen=True)
class Finished:
    """What the journal's newest row says of a track: all that decides whether it is done."""

    status: str
    uri: str
    offset_s: float | None
    duration_s: float | None
    source_etag: str | None
    settings_sha256: str
    transient: bool
    attempts: int


@dataclass(frozen=True)
class Plan:
    """What is left to do.

    Attributes:
        tracks: TRACK's columns and `extra`; `attempts` counts the tries so far.
        reasons: Why each track of the manifest is left to do, or is not; in the manifest's order.
    """

    tracks: pa.Table
    reasons: Sequence[Reason]

    @property
    def counts(self) -> Counter[Reason]:
        """Tracks of the manifest by reason."""
        return Counter(self.reasons)


def make_plan(tracks: pa.Table, finished: Mapping[str, Finished], settings_sha256: str, retry: Retry) -> Plan:
    """Subtract from the manifest's tracks what is done, and what failed and shall not be tried again."""
    names = tracks.column("id").to_pylist()
    sources = zip(*(tracks.column(name).to_pylist() for name in _SOURCE), strict=True)
    past = (finished.get(name) for name in names)
    reasons = [_reason(before, source, settings_sha256, retry) for before, source in zip(past, sources, strict=True)]
    places = [place for place, reason in enumerate(reasons) if reason not in _SETTLED]
    attempts = [finished[names[place]].attempts if reasons[place] == "failed_before" else 0 for place in places]
    todo = tracks.take(pa.array(places, pa.int64()))
    column = todo.column_names.index("attempts")
    return Plan(todo.set_column(column, TRACK.field("attempts"), pa.array(attempts, pa.int32())), reasons)


def _reason(before: Finished | None, source: tuple[Any, ...], settings_sha256: str, retry: Retry) -> Reason:
    if before is None:
        return "new"
    if before.status == "deleted":
        return "deleted"
    uri, offset, duration, etag = source
    is_same = (before.uri, before.offset_s, before.duration_s) == (uri, offset, duration)
    if not is_same or (etag is not None and etag != before.source_etag):
        return "source_changed"
    if before.settings_sha256 != settings_sha256:
        return "settings_differ"
    if before.status == "ok":
        return "done"
    return "failed_before" if _again(before, retry) else "known_failed"


def changes(before: Finished, source: Mapping[str, Any]) -> list[str]:
    """Return the names of what differs between a source and what it was; an etag that is not known does not."""
    return [name for name in _SOURCE if source[name] != getattr(before, name) and (name, source[name]) != ("source_etag", None)]


def _again(before: Finished, retry: Retry) -> bool:
    return retry == "all" or (retry == "transient" and before.transient and before.attempts < MAX_ATTEMPTS)


def vanished(tracks: pa.Table, folder: str, finished: Mapping[str, Finished]) -> list[str]:
    """Return the ids of tracks that were separated from below a folder and are not in its listing any more."""
    listed = set(tracks.column("id").to_pylist())
    below = folder.rstrip("/") + "/"
    return [name for name, was in finished.items() if was.status == "ok" and name not in listed and was.uri.startswith(below)]


def write_plan(tracks: pa.Table, put: Callable[[str, bytes], None], folder: str, *, rows_per_block: int) -> list[str]:
    """Write a plan as Parquet, one file a block of tracks.

    Returns:
        The files' URIs, in the manifest's order.
    """
    files = []
    for number, start in enumerate(range(0, tracks.num_rows, rows_per_block)):
        out = io.BytesIO()
        pyarrow.parquet.write_table(tracks.slice(start, rows_per_block), out)
        files.append(f"{folder}/{number:06d}.parquet")
        put(files[-1], out.getvalue())
    return files


def read_plan(uri: str) -> Iterator[pa.Table]:
    """Read one file of a plan: one block."""
    yield pyarrow.parquet.read_table(io.BytesIO(storage.read(uri)))


def rows_per_block(todo: int, analyze_actors: int) -> int:
    """Return how many tracks a block of the plan holds: enough blocks that every actor has its share."""
    return max(1, min(PLAN_BLOCK_ROWS, math.ceil(todo / (4 * analyze_actors))))
