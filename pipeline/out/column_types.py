"""One type for a column that several manifests have, so that no value is lost.

DuckDB alone would make a double of an integer and a double, and 2^60 + 1 would become another number. Here a column of integers
and doubles is read as integers if every double is a whole number (pandas makes doubles of integers if one is missing; NaN is a
missing value then), as doubles if every integer is exact as a double, and otherwise as text. Any other column of two types is
read as text too. Durations are microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import duckdb
import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline.rows import JOURNAL

_EXACT = 1 << 53  # integers up to here are exact as doubles
_BIGINT = "9223372036854775808"  # 2^63: a BIGINT is below it
_MICROSECONDS = {"s": "{} * 1000000", "ms": "{} * 1000", "us": "{}", "ns": "{} // 1000"}
Replaced = tuple[tuple[str, str, str], ...]  # of each replaced column: quoted name, SQL, type


def quoted(text: str, quote: str = '"') -> str:
    """Return a text quoted for SQL: as a name, or with single quotes as a value. It may hold any characters."""
    return f"{quote}{text.replace(quote, 2 * quote)}{quote}"


def as_text(column: str, kind: pa.DataType) -> str:
    """Return SQL that reads a column as text: equal numbers of any type give equal texts, NaN gives null.

    An integer gives the same text if a later manifest has it as a double, or as a decimal with more places.

    Args:
        column: The column, or an expression, in SQL.
        kind: Its Arrow type.
    """
    if pa.types.is_floating(kind):
        whole = f"{column} = trunc({column}) AND abs({column}) < {_BIGINT}"
        number = f"WHEN {whole} THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) ELSE CAST(CAST({column} AS DOUBLE) AS VARCHAR)"
        return f"CASE WHEN isnan({column}) THEN NULL {number} END"
    text = f"CAST({column} AS VARCHAR)"
    return f"regexp_replace({text}, '([.][0-9]*?)0+$', '\\1').rtrim('.')" if pa.types.is_decimal(kind) else text


def united(paths: Sequence[str], database: duckdb.DuckDBPyConnection) -> dict[Replaced, list[str]]:
    """Group journal files by the SQL that replaces their columns, so that each column has one type in all files.

    Args:
        paths: Local Parquet files.
        database: Connection that reads the values of columns that are integers in one file and doubles in another.

    Raises:
        ArrowTypeError: A file was not written by a run.
    """
    schemas = {path: pyarrow.parquet.read_schema(path) for path in paths}
    if fault := next(filter(None, map(foreign, schemas.values())), None):
        raise pa.ArrowTypeError(fault)
    columns: dict[str, dict[str, pa.Field]] = {}  # the manifests' columns: by lower-case name, then file
    for path, schema in schemas.items():
        for field in schema:
            if field.name not in JOURNAL.names and not pa.types.is_null(field.type):
                columns.setdefault(field.name.lower(), {})[path] = field
    replaced: dict[str, list[tuple[str, str, str]]] = {path: [] for path in paths}
    for fields in columns.values():
        for path, sql in _replaced(fields, database):
            replaced[path].append((quoted(fields[path].name), sql, str(fields[path].type)))
    groups: dict[Replaced, list[str]] = {(): []}
    for path, pairs in replaced.items():
        groups.setdefault(tuple(sorted(pairs)), []).append(path)
    return groups


def foreign(schema: pa.Schema) -> str | None:
    """Return why no version of a run writes a file with these columns; None if one does."""
    if "id" not in schema.names:
        return "no column id"
    for expected in JOURNAL:
        if expected.name in schema.names and not _is_alike(kind := schema.field(expected.name).type, expected.type):
            return f"column {expected.name} is {kind}, expected {expected.type if expected.name != 'stems' else 'a list'}"
    return None


def _is_alike(kind: pa.DataType, expected: pa.DataType) -> bool:
    """Return whether a column of one type can be read as another: older versions wrote narrower numbers and fewer fields."""
    if pa.types.is_null(kind):
        return True
    families = (_is_text, _is_number, pa.types.is_boolean, pa.types.is_list, pa.types.is_timestamp)
    return any(family(kind) and family(expected) for family in families)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _replaced(fields: Mapping[str, pa.Field], database: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str]]:
    """Yield the path of each file in which SQL replaces a column, and that SQL."""
    families = {path: _family(field.type) for path, field in fields.items()}
    kinds = set(families.values())
    is_mixed = kinds == {"integer", "double"}
    by_kind = {name: [path for path in fields if families[path] == name] for name in ("integer", "double")} if is_mixed else {}
    is_whole = is_mixed and _all(_WHOLE, by_kind["double"], fields, database)
    is_text = len(kinds) > 1 and not is_whole and not (is_mixed and _all(_EXACT_AS_DOUBLE, by_kind["integer"], fields, database))
    for path, field in fields.items():
        column, kind = quoted(field.name), field.type
        plain = _MICROSECONDS[kind.unit].format(column) if pa.types.is_duration(kind) else column
        if is_text:
            yield path, as_text(plain, kind)
        elif is_whole and families[path] == "double":
            yield path, f"CAST(CASE WHEN NOT isnan({column}) THEN {column} END AS BIGINT)"
        elif plain != column:
            yield path, plain


_WHOLE = f"isnan({{0}}) OR ({{0}} = trunc({{0}}) AND abs({{0}}) < {_BIGINT})"
_EXACT_AS_DOUBLE = f"{{0}} BETWEEN -{_EXACT} AND {_EXACT}"


def _all(condition: str, paths: Sequence[str], fields: Mapping[str, pa.Field], database: duckdb.DuckDBPyConnection) -> bool:
    """Return whether a condition holds for all values of a column in some files; nulls are not values."""
    column = condition.format(quoted(fields[paths[0]].name))
    query = f"SELECT coalesce(bool_and({column}), true) FROM read_parquet($paths, union_by_name = true)"  # noqa: S608 (quoted)
    return bool(database.sql(query, params={"paths": list(paths)}).fetchall()[0][0])


def _family(kind: pa.DataType) -> str:
    """Return a type's family: integers (durations are numbers of microseconds), doubles, or the type by itself."""
    if pa.types.is_integer(kind) or pa.types.is_duration(kind):
        return "integer"
    return "double" if pa.types.is_floating(kind) else str(kind)
