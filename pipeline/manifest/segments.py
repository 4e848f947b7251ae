"""Segments of files: the columns of a manifest that say where a track begins and how long it is.

`offset_s` and `duration_s` do. NeMo's manifests have `offset` and `duration`; its `duration` without an `offset` is the length of
the whole file, rounded, and so is no limit. In other manifests columns of such names are further ones; where rows differ in
nothing else of their source, whole files would be separated in the place of segments, so that is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline.manifest.parse import reason
from sep_batch.pipeline.repeats import repeated
from sep_batch.pipeline.storage import uris

BLOCK_ROWS = 65_536  # as Python's values at once
NEMO_URI = "audio_filepath"
_BEGIN = ("offset", "start", "start_s", "start_time", "segment_start")  # as NeMo, Lhotse, MusicCaps, Whisper and Praat name them
_END = ("end", "end_s", "end_time", "segment_end")
_LENGTH = ("duration",)
_NUMBER = r"^(?i:[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?|[+-]?inf(inity)?|nan)$"


@dataclass(frozen=True)
class Segments:
    """Where each row's track begins, and how long it is.

    Attributes:
        offsets_s, durations_s: (rows,) seconds; null where the manifest does not say.
        problems: Problems with values, by row.
        names: The manifest's columns of them.
        lengths: (rows,) what the column `duration` says of whole files, to be carried; None where it is not read here.
    """

    offsets_s: pa.ChunkedArray
    durations_s: pa.ChunkedArray
    problems: dict[int, str]
    names: tuple[str, str] = ("offset_s", "duration_s")
    lengths: pa.ChunkedArray | None = None


def of(table: pa.Table, uri_column: str) -> Segments:
    """Read a manifest's segments.

    Args:
        table: The manifest.
        uri_column: Its column of URIs.

    Raises:
        TypeError: A column is of a type that holds no numbers; says so.
    """
    has_own = not {"offset_s", "duration_s"}.isdisjoint(table.column_names)
    is_nemo = uri_column == NEMO_URI and "offset" in table.column_names and not has_own
    names = ("offset", "duration") if is_nemo else ("offset_s", "duration_s")
    (offsets_s, strange_offsets), (durations_s, strange) = (_seconds(table, name) for name in names)
    if not is_nemo or "duration" not in table.column_names:
        return Segments(offsets_s, durations_s, strange | strange_offsets, names)
    is_segment = pc.is_valid(offsets_s)
    problems = {place: problem for place, problem in strange.items() if is_segment[place].as_py()} | strange_offsets
    lengths = pc.if_else(is_segment, None, table.column("duration"))
    return Segments(offsets_s, pc.if_else(is_segment, durations_s, None), problems, names, lengths)


def _seconds(table: pa.Table, name: str) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """Return a column as numbers, NaN as null; and what is wrong with a value, by row."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.float64())]), {}
    column, problems = table.column(name), dict[int, str]()
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            text = pc.utf8_trim_whitespace(column)
            text = pc.if_else(pc.equal(text, ""), None, text)
            is_number = pc.fill_null(pc.match_substring_regex(text, _NUMBER), fill_value=True)
            for place in pc.indices_nonzero(pc.invert(is_number)).to_pylist():
                value = uris.printable(repr(uris.shown(text[place].as_py())), 80)
                problems[place] = f"{name} {value}, expected a number of seconds, as 90.5"
            column = pc.if_else(is_number, text, None)
        numbers = column.cast(pa.float64())
    except pa.ArrowException as error:
        kind = uris.printable(str(table.schema.field(name).type))
        raise TypeError(f"column {name}: found {kind}, expected a number of seconds, as 90.5 ({reason(error)})") from error
    return pc.if_else(pc.is_nan(numbers), None, numbers), problems


def further(table: pa.Table, known: Collection[str], segments: Segments) -> pa.Table:
    """Return a manifest's columns that are only carried; of NeMo's durations those that are the length of a whole file."""
    others = table.select([name for name in table.column_names if name not in known])
    has_lengths = segments.lengths is not None and segments.lengths.null_count < table.num_rows
    return others.append_column(segments.names[1], segments.lengths) if has_lengths else others


def ignored(given: pa.Table, table: pa.Table, names: Collection[str]) -> str | None:
    """Say which columns seem to tell segments of one file apart, and are not read; None where there are none such.

    Args:
        given: uri, offset_s and duration_s, as the manifest gives them.
        table: The manifest.
        names: Its columns of offsets and durations.
    """
    if not (seeming := _seeming(table, names)):
        return None
    again = pa.array(_repeats(given.column("uri")))  # rows of one file each need no comparison, and may be millions
    keys, table = given.select(["uri", "offset_s", "duration_s"]).filter(again), table.select(seeming).filter(again)
    whole = keys
    for name in seeming:
        whole = whole.append_column(f"their {name}", _comparable(table.column(name)))
    counts = [(f"their {name}", "count_distinct", pc.CountOptions(mode="all")) for name in seeming]
    files = whole.group_by(keys.column_names).aggregate(counts)
    differing = [name for name in seeming if (pc.max(files.column(f"their {name}_count_distinct")).as_py() or 0) > 1]
    return _hint(differing, seeming) if differing else None


def _repeats(sources: pa.ChunkedArray) -> np.ndarray:
    """Tell of each row whether its source may be another's too."""
    blocks = pa.table([sources], ["uri"]).to_batches(max_chunksize=BLOCK_ROWS)
    hashes = (hash(uri) for block in blocks for uri in block.column(0).to_pylist())
    return repeated(np.fromiter(hashes, np.int64, len(sources)))


def warnings(table: pa.Table, segments: Segments) -> list[str]:
    """Return a warning where segments begin by our columns, and seem to end by others."""
    ends = [name for name in _seeming(table, segments.names) if name not in _BEGIN]
    has_begin, has_end = (column.null_count < table.num_rows for column in (segments.offsets_s, segments.durations_s))
    if not ends or not has_begin or has_end:
        return []
    return [f"column {ends[0]} is not read, so each track lasts to the end of its file; duration_s says how long one is"]


def _seeming(table: pa.Table, names: Collection[str]) -> list[str]:
    return [name for name in (*_BEGIN, *_END, *_LENGTH) if name in table.column_names and name not in names]


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column whose values can be counted; nested ones as nulls, since they are no seconds."""
    return pa.chunked_array([pa.nulls(len(column))]) if pa.types.is_nested(column.type) else column


def _hint(differing: list[str], names: list[str]) -> str:
    begins = [f"rename {name} to offset_s, the seconds to skip" for name in names if name in _BEGIN]
    lengths = [f"rename {name} to duration_s, the seconds to separate" for name in names if name in _LENGTH]
    ends = [f"in the place of {name} give duration_s, the end less the beginning" for name in names if name in _END]
    return (
        f"rows of one file differ in {' and '.join(differing)}, which is not read, so each would be the whole file: "
        f"{'; '.join([*begins, *lengths, *ends])}; or give a column that means something else another name"
    )
