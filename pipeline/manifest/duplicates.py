"""Files with the same content: the first by name stays in a manifest, the others are left out with a warning."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest.audio_files import counted
from sep_batch.pipeline.manifest.per_file import CountFiles, ask_files
from sep_batch.pipeline.storage import Info, uris

Content = Literal["etag", "sha256"]
SHOWN = 5
READ_BYTES = 4 << 20  # two are in memory for each file that is being read
_MD5 = re.compile(r"[0-9a-f]{32}")  # S3's etag of an object put whole; after an upload in parts it ends in - and their number
_KEY, _PLACE = "_sep_content", "_sep_place"
_EXCERPT = ("offset_s", "duration_s")  # two excerpts of one file are two tracks


def leave_out(table: pa.Table, by: Content, count_files: CountFiles) -> tuple[pa.Table, list[str]]:
    """Leave out files with the same content as another.

    Args:
        table: Manifest, as `scan` makes it.
        by: `etag` compares the storage's etags and reads no file; `sha256` reads all files whose size another file has too.
        count_files: Called with the number of files handled since the last call.

    Returns:
        The manifest, and warnings: files that were left out, and files that could not be compared.

    Raises:
        UsageError: `etag` is given, and a file is not on S3.
        NotRunnableError: Storage does not answer at all.
    """
    keyed, warnings = _by_etag(table, count_files) if by == "etag" else _by_sha256(table, count_files)
    kept, repeated = _first_by_name(keyed)
    return kept.drop_columns(_KEY), [*warnings, *repeated]


def _by_etag(table: pa.Table, count_files: CountFiles) -> tuple[pa.Table, list[str]]:
    elsewhere = table.column("uri").filter(pc.invert(pc.starts_with(table.column("uri"), "s3://")))
    if len(elsewhere):
        raise errors.UsageError(
            f"--dedup etag: {uris.shown(elsewhere[0].as_py())} is not on S3, so its etag is no content hash; use --dedup sha256"
        )
    keyed, unanswered = ask_files(table, _content_etag, pa.schema([(_KEY, pa.string())]), count_files)
    unsure = len(keyed.filter(pc.is_null(keyed.column(_KEY))).column("uri").unique()) - unanswered.count
    in_parts = f"{counted(unsure, 'object')} uploaded in parts, so the etag is no content hash (listed anyway)"
    return keyed, [*[in_parts] * bool(unsure), *unanswered.warnings("could not be compared (listed anyway)")]


def _content_etag(file: Info) -> tuple[str | None]:
    return (f"{file.etag} {file.bytes}" if file.etag and _MD5.fullmatch(file.etag) else None,)


def _by_sha256(table: pa.Table, count_files: CountFiles) -> tuple[pa.Table, list[str]]:
    sized, unanswered = ask_files(table, lambda _file: (), pa.schema([]), lambda _count: None)
    sizes = pc.value_counts(sized.group_by(["uri", "size"]).aggregate([]).column("size"))
    shared = sizes.filter(pc.greater(sizes.field("counts"), 1)).field("values")
    positions = np.flatnonzero(pc.is_in(sized.column("size"), shared, skip_nulls=True).to_numpy())
    count_files(table.num_rows - len(positions))
    hashed, unread = ask_files(sized.take(pa.array(positions)), _sha256, pa.schema([(_KEY, pa.string())]), count_files)
    keys = np.full(table.num_rows, None, object)
    keys[positions] = hashed.column(_KEY).to_numpy()
    warnings = [*unanswered.warnings("without a known size"), *unread.warnings("could not be read (listed anyway)")]
    return sized.append_column(_KEY, pa.array(keys, pa.string())), warnings


def _sha256(file: Info) -> tuple[str]:
    digest = hashlib.sha256()
    with storage.open_ranges(file.uri, file.bytes, READ_BYTES) as source:
        while block := source.read(READ_BYTES):
            digest.update(block)
    return (digest.hexdigest(),)


def _first_by_name(keyed: pa.Table) -> tuple[pa.Table, list[str]]:
    """Keep the first row by URI of each key, offset and duration, and all rows without a key; their order stays."""
    columns = [_KEY, *(name for name in _EXCERPT if name in keyed.column_names)]
    placed = keyed.select(["uri", *columns]).append_column(_PLACE, pa.array(np.arange(keyed.num_rows)))
    named = placed.filter(pc.is_valid(placed.column(_KEY))).sort_by("uri")
    first = named.group_by(columns, use_threads=False).aggregate([("uri", "first"), (_PLACE, "first")])
    dropped = named.filter(pc.invert(pc.is_in(named.column(_PLACE), first.column(f"{_PLACE}_first"))))
    kept = keyed.filter(pc.invert(pc.is_in(placed.column(_PLACE), dropped.column(_PLACE).combine_chunks())))
    return kept, _repeated(dropped, first, columns)


def _repeated(dropped: pa.Table, first: pa.Table, columns: list[str]) -> list[str]:
    if not dropped.num_rows:
        return []
    shown = dropped.slice(0, SHOWN).to_pylist()
    named = first.filter(pc.is_in(first.column(_KEY), pa.array([row[_KEY] for row in shown]))).to_pylist()
    original = {tuple(row[name] for name in columns): row["uri_first"] for row in named}
    pairs = [f"{uris.shown(row['uri'])} is {uris.shown(original[tuple(row[name] for name in columns)])}" for row in shown]
    more = "; ..." * (dropped.num_rows > SHOWN)
    return [f"left out: {counted(dropped.num_rows, 'file')} with the same content as another: {'; '.join(pairs)}{more}"]
