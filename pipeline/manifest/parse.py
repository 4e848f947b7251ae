"""A manifest's bytes as an Arrow table, and the types in which the journal and the index can hold its columns.

Manifests come from outside. So input that crashes Arrow's readers is refused before they get it, Arrow's messages are not
repeated with the URIs that they quote, and a column that Parquet or DuckDB cannot hold is found before the run, not at its end.
"""

from __future__ import annotations

import csv
import io
import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from sep_batch.pipeline.storage import uris

DEEPEST = 20  # nesting of lists and structs; Arrow's JSON reader crashes the process at 20,000, DuckDB gives up at 100
MOST_ROWS = 50_000_000  # equal rows take a byte each in Parquet and a hundred here
NUMBERS = ("offset_s", "duration_s", "offset", "duration")  # columns of seconds, which CSV may have with a decimal comma
_WHOLE = pa.int64()  # type of durations
_PARQUET = (".parquet", ".pq")
_SEPARATED = (".csv", ".tsv")
_SEPARATORS = (",", ";", "\t")
_DECIMAL_COMMA = r"^([+-]?[0-9]+),([0-9]+)$"
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"?')  # text in JSON; one without an end goes to the end of its line
_URI = re.compile(r"\S*(?:://|@)\S*")


class UnreadableError(Exception):
    """Content that is not what its extension says; the message repeats no URI of it."""


@dataclass(frozen=True)
class Parsed:
    """A manifest's bytes as a table.

    Attributes:
        table: Its rows.
        problems: Problems with the form of a row, by row.
        warnings: Warnings, a line each.
    """

    table: pa.Table
    problems: Mapping[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def parse(extension: str, content: bytes, text_columns: Collection[str]) -> pa.Table:
    """Read a table.

    Args:
        extension: .parquet, .pq, .csv, .tsv, .jsonl, .ndjson or .json.
        content: The file.
        text_columns: Columns that are always read as text, even numbers in CSV and timestamps in JSONL. A CSV's separator is the
            one with which its first line names one of them.

    Raises:
        UnreadableError: It is no such table.
    """
    kind = "Parquet" if extension in _PARQUET else extension[1:].upper() if extension in _SEPARATED else "JSONL"
    try:
        if kind == "Parquet":
            table = _parquet(content)
        else:
            text = _as_utf8(content)
            table = _separated(text, extension, text_columns) if extension in _SEPARATED else _json(text, text_columns)
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "; expected UTF-8" * ("UTF8" in str(error))
        raise UnreadableError(f"not readable as {kind}: {reason(error)}{hint}") from error
    return table


def decoded(content: bytes, kind: str) -> str:
    """Decode a text in UTF-8, or in UTF-16 if a byte order mark says so.

    Args:
        content: The file.
        kind: The expected kind, for the message.

    Raises:
        UnreadableError: It is no such text.
    """
    try:
        return _as_utf8(content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"not readable as {kind}: expected UTF-8 ({error.reason} at byte {error.start:,})") from error


def _as_utf8(content: bytes) -> bytes:
    """Return a text in UTF-8; Excel's "Unicode text" is UTF-16 with a byte order mark."""
    return content.decode("utf-16").encode() if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else content


def _parquet(content: bytes) -> pa.Table:
    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    if file.metadata.num_rows > MOST_ROWS:
        raise pa.ArrowInvalid(f"{file.metadata.num_rows:,} rows, expected at most {MOST_ROWS:,}")
    return file.read()


def _separated(content: bytes, extension: str, text_columns: Collection[str]) -> pa.Table:
    """Read CSV with commas, semicolons or tabs; strip names, and values of the columns of texts and seconds."""
    if not content.strip():
        return _no_rows()
    separator, names = _header(content, extension, text_columns)
    table = pyarrow.csv.read_csv(
        io.BytesIO(content),
        # Without newlines_in_values, a text of several lines that crosses two blocks is misread; it costs a second pass.
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=b'"' in content),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in names if name.strip() in text_columns}, strings_can_be_null=True
        ),
    )
    table = table.rename_columns([name.strip() for name in table.column_names])
    for number, name in enumerate(table.column_names):
        if pa.types.is_string(table.schema.types[number]) and name in (*text_columns, *NUMBERS):
            column = pc.utf8_trim_whitespace(table.column(number))
            if name in NUMBERS and separator != ",":
                column = pc.replace_substring_regex(column, _DECIMAL_COMMA, r"\1.\2")
            table = table.set_column(number, name, column)
    return table


def _header(content: bytes, extension: str, text_columns: Collection[str]) -> tuple[str, list[str]]:
    """Return a file's column separator, and its column names as they are in the file."""
    usual = "\t" if extension == ".tsv" else ","
    rows = {separator: _first_row(content, separator) for separator in (usual, *_SEPARATORS)}
    return next((pair for pair in rows.items() if any(name.strip() in text_columns for name in pair[1])), (usual, rows[usual]))


def _first_row(content: bytes, separator: str) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", "replace", newline="")
    return next((row for row in csv.reader(text, delimiter=separator) if row), [])


def _json(content: bytes, text_columns: Collection[str]) -> pa.Table:
    """Read one object per line, or one array of objects."""
    start = content[:1000].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start == b"[":
        content = _lines_of_array(content)
    if not content.strip():
        return _no_rows()
    _refuse_deep(content)
    table = pyarrow.json.read_json(io.BytesIO(content))
    dated = [name for name in text_columns if name in table.column_names and pa.types.is_timestamp(table[name].type)]
    if not dated:
        return table
    as_text = pyarrow.json.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in dated]))
    return pyarrow.json.read_json(io.BytesIO(content), parse_options=as_text)


def _lines_of_array(content: bytes) -> bytes:
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise pa.ArrowInvalid(f"expected one array of objects, or an object a line ({reason(error)})") from error
    if not all(isinstance(row, dict) for row in rows):
        raise pa.ArrowInvalid("expected an array of objects, found other values in it")
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _no_rows() -> pa.Table:
    return pa.table({"uri": pa.array([], pa.string())})


def _refuse_deep(content: bytes) -> None:
    """Refuse JSON that is nested deeper than Arrow's reader survives, over one line or many."""
    depth = 0
    for number, line in enumerate(io.BytesIO(content), 1):
        opened = line.count(b"[") + line.count(b"{")
        if not depth and opened <= DEEPEST and opened == line.count(b"]") + line.count(b"}"):
            continue
        depths = list(accumulate(((char in b"[{") - (char in b"]}") for char in _TEXT.sub(b"", line)), initial=depth))
        if max(depths) > DEEPEST:
            raise pa.ArrowInvalid(f"line {number} is nested deeper than {DEEPEST}")
        depth = max(0, depths[-1])


def reason(error: Exception) -> str:
    """Return the first line of Arrow's message, without the URIs of the row that it quotes."""
    lines = str(error).splitlines() or [type(error).__name__]
    return uris.printable(_URI.sub("...", lines[0]))


def carried(kind: pa.DataType, deepest: int = DEEPEST, duration: pa.DataType = _WHOLE) -> pa.DataType | None:
    """Return the type in which a column of the manifest is carried; None if Parquet or DuckDB cannot hold it.

    Extension types are carried as their storage types. Timestamps in seconds or milliseconds become microseconds: DuckDB converts
    them, and raises if they are out of range. Durations become integers of microseconds: DuckDB reads only their number, whatever
    the unit.

    Args:
        kind: Type of the column.
        deepest: Levels of lists and structs that it may have.
        duration: The type that durations become.
    """
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return carried(kind.storage_type, deepest, duration)
    if types.is_nested(kind):
        return _carried_nested(kind, deepest - 1, duration) if deepest else None
    if types.is_duration(kind):
        return duration
    if types.is_dictionary(kind):
        return kind if types.is_primitive(kind.value_type) or types.is_string(kind.value_type) else None
    if types.is_timestamp(kind):
        return kind if kind.unit in ("us", "ns") else pa.timestamp("us", kind.tz)
    plain = (
        *(types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal128, types.is_date),
        *(types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary),
        *(types.is_binary_view, types.is_fixed_size_binary),
    )
    return kind if any(holds(kind) for holds in plain) else None


def _carried_nested(kind: pa.DataType, deepest: int, duration: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_map(kind):
        key, value = carried(kind.key_type, deepest, duration), carried(kind.item_type, deepest, duration)
        return pa.map_(key, value) if key and value else None
    inner = [carried(kind.field(number).type, deepest, duration) for number in range(kind.num_fields)]
    if not inner or None in inner:
        return None
    fields = [kind.field(number).with_type(type) for number, type in enumerate(inner)]
    if types.is_struct(kind):
        return pa.struct(fields)
    if types.is_large_list(kind):
        return pa.large_list(fields[0])
    is_list = types.is_list(kind) or types.is_fixed_size_list(kind) or types.is_list_view(kind)
    return pa.list_(fields[0]) if is_list else None


def carry(column: pa.ChunkedArray) -> pa.Array | None:
    """Return a column in the type in which it is carried; None if that is impossible."""
    kind, in_microseconds = carried(column.type), carried(column.type, duration=pa.duration("us"))
    if kind is None:
        return None
    try:
        if in_microseconds != column.type:
            column = column.cast(options=pc.CastOptions(in_microseconds, allow_time_truncate=True))
        whole = (column if kind == column.type else column.cast(kind)).combine_chunks()
    except pa.ArrowException:
        return None
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
