"""The columns, and the Arrow schemas of plan, part, journal and index.

One row goes through the whole pipeline and is filled as it goes. It starts with what the manifest says (TRACK), is given what
becomes of the track (RESULT), and while it travels between stages it says which part of its track it is (PLACE) and carries a
payload (PAYLOAD): a spectrum, or the stems' samples, as raw bytes. The manifest's own further columns travel as one struct,
`extra`, and are columns of their own again in the journal and the index.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

SCHEMA_VERSION = "1"
SCHEMA_KEY = b"sep_batch_schema"

TRACK = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),  # resolved: absolute
        ("offset_s", pa.float64()),
        ("duration_s", pa.float64()),
        ("source_etag", pa.string()),
        ("attempts", pa.int32()),  # tries so far, this one included once it is done
    ]
)

STEM = pa.struct(
    [
        ("stem", pa.string()),
        ("uri", pa.string()),  # relative to OUT
        ("codec", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("frames", pa.int64()),  # samples a channel, of the file
        ("peak_dbfs", pa.float32()),
        ("rms_dbfs", pa.float32()),
        ("lufs", pa.float32()),
        ("clipped_samples", pa.int64()),
        ("levels_dbfs", pa.list_(pa.int8())),  # of each second begun; these four are null where no analysis was asked for
        ("active_ratio", pa.float32()),
        ("active_regions", pa.list_(pa.struct([("start_s", pa.float32()), ("end_s", pa.float32())]))),
        ("width", pa.float32()),  # energy of the side against mid + side: 0 mono, 1 only side; null in silence
        ("sample_rate_hz", pa.int32()),
        ("channels", pa.int32()),
    ]
)

SUMS = pa.struct([("windows", pa.list_(pa.float64())), ("side", pa.float64())])  # of squares, as `analysis.Sums` takes them

RESULT = pa.schema(
    [
        ("status", pa.string()),  # ok, failed, deleted (repair found its stems broken), replaced (a run writes over its stems)
        ("error_class", pa.string()),
        ("error_stage", pa.string()),
        ("error", pa.string()),
        ("transient", pa.bool_()),
        ("audio_s", pa.float64()),
        ("source_rate_hz", pa.int32()),
        ("source_channels", pa.int32()),
        ("source_codec", pa.string()),
        ("source_stream", pa.int32()),  # among the audio streams, from 0, as FFmpeg's 0:a:N counts
        ("source_streams", pa.int32()),  # audio streams in the file
        ("source_bytes", pa.int64()),
        ("truncated", pa.bool_()),
        ("skipped_packets", pa.int32()),
        ("source_used_ratio", pa.float32()),  # of the source's bytes of audio; null where bytes do not count, and in older rows
        ("nonfinite_samples", pa.int64()),
        ("decode_rules", pa.int32()),  # `audio.DECODE_RULES`; null in rows from before there were numbers
        ("parts", pa.int32()),
        ("model", pa.string()),
        ("weights_sha256", pa.string()),
        ("settings_sha256", pa.string()),
        ("device", pa.string()),
        ("precision", pa.string()),
        ("stems", pa.list_(STEM)),
        ("above_f_db", pa.float32()),
        ("decode_s", pa.float32()),
        ("separate_s", pa.float32()),
        ("write_s", pa.float32()),
        ("finished_at", pa.timestamp("us", tz="UTC")),
        ("run_id", pa.string()),
    ]
)

PLACE = pa.schema(
    [
        ("part", pa.int32()),
        ("last", pa.bool_()),
        ("skip", pa.int64()),  # samples at the front that belong to the part before
        ("begin", pa.int64()),  # samples of the track before this part
        ("samples", pa.int64()),  # samples of the track that this part gives
        ("energy", pa.float64()),  # of the spectrum
        ("energy_above_f", pa.float64()),
        ("sums", pa.list_(SUMS)),  # a stem each; null where no analysis was asked for, and in finished rows
    ]
)

PAYLOAD = pa.schema(
    [
        ("shape", pa.list_(pa.int64())),
        ("dtype", pa.string()),  # numpy's name
        ("payload", pa.large_binary()),  # row-major; empty in a failed row
    ]
)

JOURNAL = pa.schema([*TRACK, *RESULT], metadata={SCHEMA_KEY: SCHEMA_VERSION})
WRITTEN = pa.schema([*TRACK, *RESULT, *PLACE])  # a finished track, or a part of one that is stored: its status is null
PART = pa.schema([*TRACK, *RESULT, *PLACE, *PAYLOAD])
EXTRA = "extra"
PROBLEM = "problem"  # of a manifest's tracks, where some of its rows are bad: what is wrong with each, null where nothing is


def each(block: pa.Table) -> Iterator[pa.Table]:
    """Yield a block's rows, each a table of one row."""
    return (block.slice(place, 1) for place in range(block.num_rows))


def value(row: pa.Table, column: str) -> Any:
    """Return one value of a row, as Python's; never ask it for the payload."""
    return row.column(column)[0].as_py()


def fill(row: pa.Table, schema: pa.Schema, **values: Any) -> pa.Table:
    """Return a row of a schema: what it held, with these values, the rest null.

    Args:
        row: One row; of its columns those that the schema has are kept, and `extra`.
        schema: PART or WRITTEN.
        values: By column. A payload is given as an array, which is not copied where it is row-major.
    """
    if isinstance(array := values.get("payload"), np.ndarray):
        values |= {"payload": _binary(array), "shape": list(array.shape), "dtype": array.dtype.name}
    columns = {}
    for column in schema:
        if column.name in values:
            new = values[column.name]
            columns[column.name] = new if isinstance(new, pa.Array) else pa.array([new], column.type)
        elif column.name in row.column_names:
            columns[column.name] = row.column(column.name)
        else:
            columns[column.name] = pa.nulls(1, column.type)
    if EXTRA in row.column_names:
        columns[EXTRA] = row.column(EXTRA)
    return pa.table(columns)


def payload(row: pa.Table) -> np.ndarray:
    """Return a row's payload as an array that is not copied and cannot be written to."""
    column = row.column("payload").chunk(0)
    _, ends, content = column.buffers()
    start, stop = np.frombuffer(ends, np.int64)[column.offset : column.offset + 2]
    dtype = np.dtype(value(row, "dtype"))
    flat = np.frombuffer(content, dtype, count=(stop - start) // dtype.itemsize, offset=start)
    flat.flags.writeable = False
    return flat.reshape(value(row, "shape"))


def _binary(array: np.ndarray) -> pa.Array:
    content = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
    ends = pa.py_buffer(np.array([0, content.nbytes], np.int64))
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(content)])


def journal_table(rows: pa.Table) -> pa.Table:
    """Return finished rows as the journal holds them: no payload, the manifest's own columns beside ours."""
    table = rows.select(JOURNAL.names)
    if EXTRA in rows.column_names:
        extra = rows.column(EXTRA).combine_chunks()
        for place, field in enumerate(extra.type):
            table = table.append_column(field, extra.field(place))
    return table.replace_schema_metadata(JOURNAL.metadata)
