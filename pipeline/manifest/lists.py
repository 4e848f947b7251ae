"""Lists of files, read in every format of manifests; and manifests, written as Parquet, CSV or JSONL.

A list's ids, offsets, durations, etags and further columns are kept. Its rows are checked as a manifest's are, so the manifest
made of a list has the tracks that the list has as a manifest.
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

BLOCK_ROWS = 1000  # of JSONL, written at once


@dataclass(frozen=True)
class Reading:
    """Options for reading sources: arguments of `manifest.read`."""

    uri_column: str | None = None
    id_column: str | None = None
    input_root: str | None = None
    allow_http: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def read(uri: str, how: Reading) -> tuple[pa.Table, tuple[str, ...]]:
    """Read a list.

    Returns:
        uri (absolute), id, offset_s, duration_s, source_etag, size, and its further columns; and warnings.

    Raises:
        ManifestError: It is unreadable, or ambiguous about its files.
    """
    listed = manifest.read(uri, **asdict(how))
    tracks = listed.tracks
    columns = {name: tracks.column(name) for name in ("uri", "id", "offset_s", "duration_s", "source_etag")}
    columns["size"] = pa.nulls(tracks.num_rows, pa.int64())
    if EXTRA in tracks.column_names:
        extra = tracks.column(EXTRA).combine_chunks()
        for number, field in enumerate(extra.type):
            is_text = field.name == "size" and not pa.types.is_integer(field.type)
            columns["manifest_size" if is_text else field.name] = extra.field(number)
    columns["size"] = columns["size"].cast(pa.int64())
    return pa.table(columns), listed.warnings


def refuse_target(uri: str) -> None:
    """Refuse to write a manifest to a URI or with an extension that is not supported.

    Raises:
        UsageError: The extension is none of `WRITTEN_EXTENSIONS`.
        NotRunnableError: The URI cannot be written to.
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
        UsageError: The extension is not supported, or its format cannot hold the table.
        NotRunnableError: Storage refused it.
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
