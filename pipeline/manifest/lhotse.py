"""Lhotse's manifests: a recording is a track, a cut is a segment of one.

Recordings have `sources`, the files that their channels are in; cuts have a `recording`, `start` and `duration`. A row that
is not one unchanged file has a problem.

Source: https://lhotse.readthedocs.io/en/latest/corpus.html, https://lhotse.readthedocs.io/en/latest/cuts.html
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from sep_batch.pipeline.manifest.parse import Parsed, UnreadableError, reason
from sep_batch.pipeline.storage import uris

BLOCK_ROWS = 10_000  # that are Python values at once
_READ = ("file", "url")
_CUTS = ("MonoCut", "MultiCut")
_TAKEN = ("sources", "transforms", "recording", "start")  # columns read as uri, offset_s and duration_s; all others are carried
_TRACK = pa.schema([("uri", pa.string()), ("id", pa.string()), ("offset_s", pa.float64()), ("duration_s", pa.float64())])


def is_lhotse(table: pa.Table) -> bool:
    """Return whether a table has the columns of Lhotse's recordings or cuts."""
    return _is_recordings(table) or _is_cuts(table)


def _is_recordings(table: pa.Table) -> bool:
    return "sources" in table.column_names and _has_sources(table.schema.field("sources").type)


def _is_cuts(table: pa.Table) -> bool:
    if not {"recording", "start", "duration"} <= set(table.column_names):
        return False
    kind = table.schema.field("recording").type
    number = kind.get_field_index("sources") if pa.types.is_struct(kind) else -1
    return number >= 0 and _has_sources(kind.field(number).type)


def _has_sources(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)
    return bool(is_list and kind.value_type.get_field_index("source") >= 0 and kind.value_type.get_field_index("type") >= 0)


def tracks(table: pa.Table) -> Parsed:
    """Return recordings or cuts as a table of uri, id, offset_s, duration_s, and their other columns.

    Raises:
        UnreadableError: A value is of another type than Lhotse's.
    """
    is_cuts, problems, blocks, number = _is_cuts(table), dict[int, str](), [_TRACK.empty_table()], 0
    for batch in table.to_batches(BLOCK_ROWS):
        rows = list[dict[str, Any]]()
        for row in batch.to_pylist():
            track, problem = _cut(row) if is_cuts else _recording(row)
            rows.append(track)
            if problem:
                problems[number] = problem
            number += 1
        blocks.append(_table(rows))
    result = pa.concat_tables(blocks)
    for name in table.column_names:
        if name not in (*_TRACK.names, *_TAKEN) and not (is_cuts and name == "duration"):
            result = result.append_column(name, table.column(name))
    return Parsed(result, problems)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    try:
        return pa.Table.from_pylist(rows, _TRACK)
    except pa.ArrowException as error:
        raise UnreadableError(f"not readable as a Lhotse manifest: {reason(error)}") from error


def _recording(row: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    uri, problem = _file(row)
    return {"uri": uri, "id": row.get("id")}, problem


def _cut(row: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    recording = row["recording"] or {}
    uri, problem = _file(recording)
    start, duration = row["start"], row["duration"]
    is_whole = not start and duration is not None and duration == recording.get("duration")
    if not is_whole:
        duration_s, offset_s = duration, start
    else:  # asking for a rounded duration would leave out the last samples
        duration_s = offset_s = None
    kind = row.get("type")
    if kind not in _CUTS:
        problem = f"a Lhotse cut of type {uris.printable(str(kind), 40)}, expected {' or '.join(_CUTS)}"
    elif not problem and (channels := _channels(recording)) > len(_listed(row.get("channel"))):
        problem = f"a Lhotse cut of {len(_listed(row.get('channel')))} of {channels} channels; all of a file's channels are read"
    return {"uri": uri, "id": row.get("id"), "offset_s": offset_s, "duration_s": duration_s}, problem


def _file(recording: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the URI of a recording's one file, and the problem with it."""
    sources = recording.get("sources") or []
    if len(sources) != 1:
        return None, f"a Lhotse recording of {len(sources)} sources, expected one file"
    source = sources[0]
    if source["type"] not in _READ:
        return None, f"a Lhotse source of type {uris.printable(str(source['type']), 40)}, expected {' or '.join(_READ)}"
    if recording.get("transforms"):
        return source["source"], "a Lhotse recording with transforms, which are not applied here; expected the file as it is"
    return source["source"], None


def _channels(recording: dict[str, Any]) -> int:
    return len(recording["sources"][0].get("channels") or ())


def _listed(channel: Any) -> list[Any]:
    return channel if isinstance(channel, list) else [channel]
