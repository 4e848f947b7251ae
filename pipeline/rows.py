"""The columns, and the Arrow schemas of plan, part, journal and index.

One row goes through the whole pipeline and is filled on the way. It starts with the manifest's columns (TRACK) and receives the
results (RESULT). Between stages it also holds its position in the track (PLACE) and a payload (PAYLOAD): a spectrum, or the
samples of the stems, as raw bytes. Further columns of the manifest travel as one struct, `extra`, and become columns again in the
journal and the index.
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
        ("attempts", pa.int32()),  # tries so far; Analyze counts the current one
    ]
)

STEM = pa.struct(
    [
        ("stem", pa.string()),
        ("uri", pa.string()),  # relative to OUT
        ("codec", pa.string()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("frames", pa.int64()),  # samples per channel of the file
        ("peak_dbfs", pa.float32()),
        ("rms_dbfs", pa.float32()),
        ("lufs", pa.float32()),
        ("clipped_samples", pa.int64()),
        ("levels_dbfs", pa.list_(pa.int8())),  # per second begun; this, active_* and width are null without analysis
        ("active_ratio", pa.float32()),
        ("active_regions", pa.list_(pa.struct([("start_s", pa.float32()), ("end_s", pa.float32())]))),
        ("width", pa.float32()),  # energy of the side over mid + side: 0 is mono, 1 is only side; null in silence
        ("sample_rate_hz", pa.int32()),
        ("channels", pa.int32()),
    ]
)

TAGS = pa.struct([("values", pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))), ("cover", pa.binary())])
SUMS = pa.struct([("windows", pa.list_(pa.float64())), ("side", pa.float64())])  # of squares, as `analysis.Sums` takes them

RESULT = pa.schema(
    [
        ("status", pa.string()),  # ok, failed, deleted (repair found broken stems), replaced (a run is overwriting the stems)
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
        (
            "source_used_ratio",
            pa.float32(),
        ),  # share of the audio's bytes decoded; null where they do not count, and in old rows
        ("nonfinite_samples", pa.int64()),
        ("tags_warning", pa.string()),  # tags or a cover that were not copied; null where all were, and without --copy-tags
        ("decode_rules", pa.int32()),  # `audio.DECODE_RULES`; null in rows from before it was recorded
        ("parts", pa.int32()),
        ("model", pa.string()),
        ("weights_sha256", pa.string()),
        ("settings_sha256", pa.string()),
        ("device", pa.string()),
        ("precision", pa.string()),
        ("stems", pa.list_(STEM)),
        ("above_f_db", pa.float32()),
        ("null_db", pa.float32()),  # mix minus stems, in the bins that stems have, against the mix; null without analysis
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
        ("samples", pa.int64()),  # samples of the track in this part
        ("energy", pa.float64()),  # of the spectrum
        ("energy_above_f", pa.float64()),
        ("tags", TAGS),  # of the source, in the first part; null without --copy-tags, and in finished rows
        ("sums", pa.list_(SUMS)),  # one per stem; null without analysis, and in finished rows
        ("null_energies", pa.list_(pa.float64())),  # energies of the null test
        ("k_weighted", pa.list_(pa.list_(pa.float64()))),  # energies for the loudness of each stem; null in finished rows
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
WRITTEN = pa.schema([*TRACK, *RESULT, *PLACE])  # a finished track, or a stored part, whose status is null
PART = pa.schema([*TRACK, *RESULT, *PLACE, *PAYLOAD])
EXTRA = "extra"
PROBLEM = "problem"  # column of a manifest with bad rows: the error of each row, null for a good one


def each(block: pa.Table) -> Iterator[pa.Table]:
    """Yield a block's rows, each a table of one row."""
    return (block.slice(number, 1) for number in range(block.num_rows))


def value(row: pa.Table, column: str) -> Any:
    """Return one value of a row as a Python object; not for the payload, which it would copy."""
    return row.column(column)[0].as_py()


def fill(row: pa.Table, schema: pa.Schema, **values: Any) -> pa.Table:
    """Return a row of a schema: the columns of `row` updated with `values`, the rest null.

    Args:
        row: One row; the columns of the schema, and `extra`, are kept.
        schema: PART or WRITTEN.
        values: Values by column. A payload is passed as an array, which is not copied where it is row-major.
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
    """Return a row's payload as a read-only array, without a copy."""
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
    """Return finished rows as the journal holds them: without payload, and with the manifest's further columns at the end."""
    table = rows.select(JOURNAL.names)
    if EXTRA in rows.column_names:
        extra = rows.column(EXTRA).combine_chunks()
        for number, field in enumerate(extra.type):
            table = table.append_column(field, extra.field(number))
    return table.replace_schema_metadata(JOURNAL.metadata)
