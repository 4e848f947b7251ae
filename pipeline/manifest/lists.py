"""Lists of files, read as sources of a manifest in each of its formats, and written as one in Parquet, CSV or JSONL.

A list keeps what it says: ids, offsets, durations, etags and all further columns. Its rows are checked as a manifest's are, so
what is made of it is the manifest that the list itself would have been.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest import manifest, parse
from sep_batch.pipeline.manifest.audio_files import extension
from sep_batch.pipeline.manifest.formats import WRITTEN_EXTENSIONS
from sep_batch.pipeline.rows import EXTRA
from sep_batch.pipeline.storage import uris

BLOCK_ROWS = 1000  # of JSONL, made at once


@dataclass(frozen=True)
class Reading:
    """How sources are read; the words of `manifest.read`."""

    uri_column: str | None = None
    id_column: str | None = None
    input_root: str | None = None
    allow_http: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def read(uri: str, how: Reading) -> tuple[pa.Table, tuple[str, ...]]:
    """Read a list.

    Returns:
        uri (absolute), id, offset_s, duration_s, source_etag, size, and its further columns; and what a person should know.

    Raises:
        ManifestError: It is not readable, or not clear about its files.
    """
    listed = manifest.read(uri, **asdict(how))
    tracks = listed.tracks
    columns = {name: tracks.column(name) for name in ("uri", "id", "offset_s", "duration_s", "source_etag")}
    columns["size"] = pa.nulls(tracks.num_rows, pa.int64())
    if EXTRA in tracks.column_names:
        extra = tracks.column(EXTRA).combine_chunks()
        for place, field in enumerate(extra.type):
            is_text = field.name == "size" and not pa.types.is_integer(field.type)
            columns["manifest_size" if is_text else field.name] = extra.field(place)
    columns["size"] = columns["size"].cast(pa.int64())
    return pa.table(columns), listed.warnings


def refuse_target(uri: str) -> None:
    """Refuse to write a manifest under another extension, or where nothing is written to.

    Raises:
        UsageError: Names the extensions that there are.
        NotRunnableError: The URI is none to write to.
    """
    if extension(uri) not in WRITTEN_EXTENSIONS:
        raise errors.UsageError(f"--out {uris.shown(uri)}: expected {', '.join(WRITTEN_EXTENSIONS)}")
    try:
        uris.target(uri)
    except errors.BadUri as error:
        raise errors.NotRunnableError(f"--out {error}") from error


def write(table: pa.Table, uri: str) -> None:
    """Write a manifest as Parquet, CSV or JSONL, by its extension: whole or not at all.

    Raises:
        UsageError: Another extension, or one that cannot hold what the table does.
        NotRunnableError: Storage did not take it.
    """
    refuse_target(uri)
    content = io.BytesIO()
    try:
        _write(table, extension(uri), content)
    except pa.ArrowException as error:
        raise errors.UsageError(f"--out {uris.shown(uri)}: {parse.reason(error)}; Parquet holds every column") from error
    try:
        storage.put(uris.target(uri), content.getbuffer())
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"--out {error}") from error


def _write(table: pa.Table, kind: str, content: io.BytesIO) -> None:
    if kind in (".parquet", ".pq"):
        pyarrow.parquet.write_table(table, content)
    elif kind == ".csv":
        pyarrow.csv.write_csv(table, content)
    else:
        rows = (row for batch in table.to_batches(BLOCK_ROWS) for row in batch.to_pylist())
        content.writelines(f"{json.dumps(row, default=str)}\n".encode() for row in rows)
