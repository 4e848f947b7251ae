"""Columns of a manifest: URI and id by any of their names, and the columns that are carried into the index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from sep_batch.pipeline import errors
from sep_batch.pipeline.manifest import parse
from sep_batch.pipeline.manifest.bad_rows import SHOWN
from sep_batch.pipeline.rows import JOURNAL
from sep_batch.pipeline.storage import uris

URI_SPELLINGS = ("uri", "url", "path", "audio_filepath", "file_name")


def without_views(table: pa.Table) -> pa.Table:
    """Return a table with plain texts and bytes instead of views, which other libraries write and Arrow cannot slice."""
    for number, field in enumerate(table.schema):
        for view, plain in ((pa.string_view(), pa.string()), (pa.binary_view(), pa.binary())):
            if field.type == view:
                table = table.set_column(number, field.with_type(plain), table.column(number).cast(plain))
    return table


def choose_columns(names: Sequence[str], uri_column: str | None, id_column: str | None, subject: str) -> tuple[str, str]:
    """Return the columns of URIs and of ids."""
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise errors.ManifestError(f"{subject}: found more than one column {listed(doubled)}")
    spellings = (uri_column,) if uri_column else URI_SPELLINGS
    source = next((name for name in spellings if name in names), None)
    if source is None and {"destinationBucket", "fileSchema"} <= set(names):
        raise errors.ManifestError(
            f"{subject}: part of an S3 Inventory; sep-batch manifest makes a manifest of the files it lists"
        )
    if source is None:
        raise errors.ManifestError(
            f"{subject}: no uri column; found {listed(names) or 'none'}, expected {' or '.join(spellings)}"
        )
    if id_column and id_column not in names:
        raise errors.ManifestError(f"{subject}: no column {id_column}; found {listed(names)}")
    return source, id_column or "id"


def source_column(table: pa.Table, name: str, kind: pa.DataType, subject: str) -> pa.ChunkedArray:
    """Return a column cast to a type; nulls if there is none of this name."""
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, kind)])
    try:
        return table.column(name).cast(kind)
    except pa.ArrowException as error:
        type_name, reason = uris.printable(str(table.schema.field(name).type)), parse.reason(error)
        raise errors.ManifestError(
            f"{subject}: column {uris.printable(name)}: found {type_name}, expected {kind} ({reason})"
        ) from error


def extra_columns(further: pa.Table) -> tuple[pa.StructArray | None, list[str]]:
    """Return a manifest's further columns as one struct, and warnings about them."""
    taken = {name.lower() for name in JOURNAL.names} | {
        "file_row_number",
        "file_index",
        "_sep_file",
        "_sep_place",
    }  # of out/database.py
    columns: dict[str, pa.Array] = {}
    warnings = []
    for name in further.column_names:
        shown = uris.printable(name, 60)
        column = parse.carry(further.column(name)) if shown == name else None
        if column is None:
            warnings.append(
                f"column {shown} is left out: the index cannot hold {_kind(further, name) if shown == name else 'its name'}"
            )
            continue
        new = name
        while not new or new.lower() in taken:
            new = f"manifest_{new}"
        taken.add(new.lower())
        columns[new] = column
        if pa.types.is_duration(further.schema.field(name).type):
            warnings.append(f"column {name} is carried as whole microseconds: the index holds durations as int64")
        if new != name:
            warnings.append(
                f"column {name} is carried as {new}: {'the index has a column of that name' if name else 'it has no name'}"
            )
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns)) if columns else None, warnings


def _kind(table: pa.Table, name: str) -> str:
    return uris.printable(str(table.schema.field(name).type))


def listed(names: Sequence[str]) -> str:
    """Return names for a message."""
    return ", ".join(uris.printable(name, 60) for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
