"""A manifest's bytes as an Arrow table, and which of its columns the journal and the index can hold.

What is read here comes from outside: a reader of Arrow's may not be given what makes it fall over, what it says of a row
may not be repeated as it is, and a column that Parquet or DuckDB cannot hold may not be found out at the end of a run.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from itertools import accumulate

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from sep_batch.pipeline import uris

DEEPEST = 20  # lists and structs in one another; Arrow's JSON reader takes the process with it at 20,000, DuckDB gives up at 100
MOST_ROWS = 50_000_000  # equal ones take a byte in Parquet and a hundred here
_PARQUET = (".parquet", ".pq")
_URI = re.compile(r"\S*(?:://|@)\S*")


class UnreadableError(Exception):
    """Not what its extension says: in words that repeat no URI of it."""


def parse(extension: str, content: bytes, text_columns: Collection[str]) -> pa.Table:
    """Read a table.

    Args:
        extension: One of manifest.MANIFEST_EXTENSIONS.
        content: The file.
        text_columns: Those that are text whatever they look like: numbers in CSV, points in time in JSONL too.

    Raises:
        UnreadableError: It is none.
    """
    kind = "Parquet" if extension in _PARQUET else "CSV" if extension == ".csv" else "JSONL"
    try:
        table = _table(kind, content, text_columns)
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"not readable as {kind}: {reason(error)}") from error
    return table


def _table(kind: str, content: bytes, text_columns: Collection[str]) -> pa.Table:
    if kind == "Parquet":
        file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        if file.metadata.num_rows > MOST_ROWS:
            raise pa.ArrowInvalid(f"{file.metadata.num_rows:,} rows, expected at most {MOST_ROWS:,}")
        return file.read()
    if not content.strip():
        return pa.table({"uri": pa.array([], pa.string())})
    if kind == "CSV":
        text = dict.fromkeys(text_columns, pa.string())
        options = pyarrow.csv.ConvertOptions(column_types=text, strings_can_be_null=True)
        return pyarrow.csv.read_csv(io.BytesIO(content), convert_options=options)
    for number, line in enumerate(io.BytesIO(content), 1):
        if _depth(line) > DEEPEST:
            raise pa.ArrowInvalid(f"line {number} is nested deeper than {DEEPEST}")
    table = pyarrow.json.read_json(io.BytesIO(content))
    dated = [name for name in text_columns if name in table.column_names and pa.types.is_timestamp(table[name].type)]
    if not dated:
        return table
    as_text = pyarrow.json.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in dated]))
    return pyarrow.json.read_json(io.BytesIO(content), parse_options=as_text)


def _depth(line: bytes) -> int:
    """Return how deep a line of JSON is nested, brackets within its texts counted too."""
    if line.count(b"[") + line.count(b"{") <= DEEPEST:
        return 0
    return max(accumulate((char in b"[{") - (char in b"]}") for char in line))


def reason(error: Exception) -> str:
    """Return what Arrow says of a table, without the URIs of the row that it quotes."""
    said = str(error).splitlines() or [type(error).__name__]
    return uris.printable(_URI.sub("...", said[0]))


def carried(kind: pa.DataType, deepest: int = DEEPEST) -> pa.DataType | None:
    """Return the type that a column of the manifest is carried as; None where Parquet or DuckDB cannot hold it.

    Extensions are carried as what they store. Time stamps become microseconds: DuckDB turns them into those, and raises where
    they are beyond.

    Args:
        kind: The column's.
        deepest: How many lists and structs it may have in one another.
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return carried(kind.storage_type, deepest)
    if types.is_nested(kind):
        return _carried_nested(kind, deepest - 1) if deepest else None
    if types.is_dictionary(kind):
        return kind if types.is_primitive(kind.value_type) or types.is_string(kind.value_type) else None
    if types.is_timestamp(kind):
        return kind if kind.unit in ("us", "ns") else pa.timestamp("us", kind.tz)
    plain = (
        *(types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal128, types.is_date),
        *(types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary),
        *(types.is_binary_view, types.is_fixed_size_binary, types.is_duration),
    )
    return kind if any(holds(kind) for holds in plain) else None


def _carried_nested(kind: pa.DataType, deepest: int) -> pa.DataType | None:
    types = pa.types
    if types.is_map(kind):
        key, value = carried(kind.key_type, deepest), carried(kind.item_type, deepest)
        return pa.map_(key, value) if key and value else None
    inner = [carried(kind.field(place).type, deepest) for place in range(kind.num_fields)]
    if not inner or None in inner:
        return None
    fields = [kind.field(place).with_type(type) for place, type in enumerate(inner)]
    if types.is_struct(kind):
        return pa.struct(fields)
    if types.is_large_list(kind):
        return pa.large_list(fields[0])
    is_list = types.is_list(kind) or types.is_fixed_size_list(kind) or types.is_list_view(kind)
    return pa.list_(fields[0]) if is_list else None


def carry(column: pa.ChunkedArray) -> pa.Array | None:
    """Return a column as it is carried; None where it cannot be."""
    kind = carried(column.type)
    if kind is None:
        return None
    try:
        whole = (column if kind == column.type else column.cast(kind)).combine_chunks()
    except pa.ArrowException:
        return None
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
