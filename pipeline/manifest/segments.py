"""Segments of files: the columns of a manifest that say where a track begins and how long it is.

These are `offset_s` and `duration_s`. NeMo's manifests have `offset` and `duration`; a `duration` without an `offset` is the
rounded length of the whole file, and no limit. In other manifests columns of such names are only carried. If rows of one file
differ only in them, whole files would be separated instead of segments, so the manifest is refused.
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

BLOCK_ROWS = 65_536  # that are Python values at once
NEMO_URI = "audio_filepath"
_BEGIN = ("offset", "start", "start_s", "start_time", "segment_start")  # as NeMo, Lhotse, MusicCaps, Whisper and Praat name them
_END = ("end", "end_s", "end_time", "segment_end")
_LENGTH = ("duration",)
_NUMBER = r"^(?i:[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)(e[+-]?[0-9]+)?|[+-]?inf(inity)?|nan)$"


@dataclass(frozen=True)
class Segments:
    """Beginning and length of each row's track.

    Attributes:
        offsets_s, durations_s: (rows,) seconds; null if the manifest does not give them.
        problems: Problems with values, by row.
        names: Names of the manifest's columns of offsets and durations.
        lengths: (rows,) values of NeMo's `duration` for whole files, to be carried; None in other manifests.
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
        TypeError: A column's type holds no numbers.
    """
    has_own = not {"offset_s", "duration_s"}.isdisjoint(table.column_names)
    is_nemo = uri_column == NEMO_URI and "offset" in table.column_names and not has_own
    names = ("offset", "duration") if is_nemo else ("offset_s", "duration_s")
    (offsets_s, strange_offsets), (durations_s, strange) = (_seconds(table, name) for name in names)
    if not is_nemo or "duration" not in table.column_names:
        return Segments(offsets_s, durations_s, strange | strange_offsets, names)
    is_segment = pc.is_valid(offsets_s)
    problems = {row: problem for row, problem in strange.items() if is_segment[row].as_py()} | strange_offsets
    lengths = pc.if_else(is_segment, None, table.column("duration"))
    return Segments(offsets_s, pc.if_else(is_segment, durations_s, None), problems, names, lengths)


def _seconds(table: pa.Table, name: str) -> tuple[pa.ChunkedArray, dict[int, str]]:
    """Return a column as numbers, NaN as null; and problems with values, by row."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, pa.float64())]), {}
    column, problems = table.column(name), dict[int, str]()
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            text = pc.utf8_trim_whitespace(column)
            text = pc.if_else(pc.equal(text, ""), None, text)
            is_number = pc.fill_null(pc.match_substring_regex(text, _NUMBER), fill_value=True)
            for row in pc.indices_nonzero(pc.invert(is_number)).to_pylist():
                value = uris.printable(repr(uris.shown(text[row].as_py())), 80)
                problems[row] = f"{name} {value}, expected a number of seconds, as 90.5"
            column = pc.if_else(is_number, text, None)
        numbers = column.cast(pa.float64())
    except pa.ArrowException as error:
        kind = uris.printable(str(table.schema.field(name).type))
        raise TypeError(f"column {name}: found {kind}, expected a number of seconds, as 90.5 ({reason(error)})") from error
    return pc.if_else(pc.is_nan(numbers), None, numbers), problems


def further(table: pa.Table, read_columns: Collection[str], segments: Segments) -> pa.Table:
    """Return a manifest's columns that are only carried, with NeMo's durations of whole files among them."""
    others = table.select([name for name in table.column_names if name not in read_columns])
    has_lengths = segments.lengths is not None and segments.lengths.null_count < table.num_rows
    return others.append_column(segments.names[1], segments.lengths) if has_lengths else others


def ignored(sources: pa.Table, table: pa.Table, names: Collection[str]) -> str | None:
    """Return a message about unread columns that seem to give segments of one file; None if there are none.

    Args:
        sources: uri, offset_s and duration_s, as the manifest gives them.
        table: The manifest.
        names: Its columns of offsets and durations.
    """
    if not (seeming := _seeming(table, names)):
        return None
    is_repeated = pa.array(_repeats(sources.column("uri")))  # the other rows need no comparison, and may be millions
    keys, table = sources.select(["uri", "offset_s", "duration_s"]).filter(is_repeated), table.select(seeming).filter(is_repeated)
    whole = keys
    for name in seeming:
        whole = whole.append_column(f"their {name}", _comparable(table.column(name)))
    counts = [(f"their {name}", "count_distinct", pc.CountOptions(mode="all")) for name in seeming]
    files = whole.group_by(keys.column_names).aggregate(counts)
    differing = [name for name in seeming if (pc.max(files.column(f"their {name}_count_distinct")).as_py() or 0) > 1]
    return _hint(differing, seeming) if differing else None


def _repeats(sources: pa.ChunkedArray) -> np.ndarray:
    """Return for each row whether another row may have its source."""
    blocks = pa.table([sources], ["uri"]).to_batches(max_chunksize=BLOCK_ROWS)
    hashes = (hash(uri) for block in blocks for uri in block.column(0).to_pylist())
    return repeated(np.fromiter(hashes, np.int64, len(sources)))


def warnings(table: pa.Table, segments: Segments) -> list[str]:
    """Return a warning if segments begin by a column that is read, and seem to end by one that is not."""
    ends = [name for name in _seeming(table, segments.names) if name not in _BEGIN]
    has_begin, has_end = (column.null_count < table.num_rows for column in (segments.offsets_s, segments.durations_s))
    if not ends or not has_begin or has_end:
        return []
    return [f"column {ends[0]} is not read, so each track lasts to the end of its file; to limit tracks, give duration_s"]


def _seeming(table: pa.Table, names: Collection[str]) -> list[str]:
    return [name for name in (*_BEGIN, *_END, *_LENGTH) if name in table.column_names and name not in names]


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column whose values can be counted; a nested one as nulls, since it holds no seconds."""
    return pa.chunked_array([pa.nulls(len(column))]) if pa.types.is_nested(column.type) else column


def _hint(differing: list[str], names: list[str]) -> str:
    begins = [f"rename {name} to offset_s, the seconds to skip" for name in names if name in _BEGIN]
    lengths = [f"rename {name} to duration_s, the seconds to separate" for name in names if name in _LENGTH]
    ends = [f"replace {name} by duration_s, the end minus the beginning" for name in names if name in _END]
    return (
        f"rows of one file differ in {' and '.join(differing)}, which is not read, so each would be the whole file: "
        f"{'; '.join([*begins, *lengths, *ends])}; or give a column that means something else another name"
    )
