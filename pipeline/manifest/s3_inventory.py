"""S3 Inventory as a source of a manifest: AWS's daily or weekly listing of a bucket, read instead of listing the bucket.

A `manifest.json` names its files, CSV (gzipped, without a header, keys URL-encoded) or Parquet. Of versioned buckets only the
latest versions count. Files are read a block at a time.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import IO
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest import parse
from sep_batch.pipeline.manifest.audio_files import AudioFiles
from sep_batch.pipeline.storage import Info, uris

EXTENSION = ".json"
MOST_BYTES = 16 << 20  # of a manifest.json; one names some hundred bytes a file
BLOCK_BYTES = 4 << 20  # of CSV, at once
BLOCK_ROWS = 10_000  # of Parquet, at once
_BUCKET_ARN = "arn:aws:s3:::"
_COLUMNS = {"bucket", "key", "size", "etag", "islatest", "isdeletemarker"}  # as both formats spell them, apart from _ and case
_KEYS = {"destinationBucket", "fileFormat", "fileSchema"}  # of a manifest.json
_NEEDED = {"bucket", "key"}
_BROKEN = (pa.ArrowException, OSError, EOFError, zlib.error, ValueError)


@dataclass(frozen=True)
class _Inventory:
    uri: str
    is_csv: bool
    columns: tuple[str, ...]  # of CSV, in order
    files: tuple[tuple[str, int], ...]  # URI and size

    @property
    def subject(self) -> str:
        return f"inventory {uris.shown(self.uri)}"


def read(uri: str, files: AudioFiles) -> Iterator[list[Info]]:
    """Yield the audio files that an inventory lists, some thousands at a time.

    Args:
        uri: Its manifest.json.
        files: Selects audio, and counts other objects.

    Raises:
        ManifestError: It is no inventory, its format is not supported, or one of its files is not as described.
    """
    inventory = _described(uri)
    for file, size in inventory.files:
        if (size_now := storage.info(file).bytes) != size:
            raise errors.ManifestError(f"{inventory.subject}: {uris.shown(file)} has {size_now:,} bytes, expected {size:,}")
        try:
            with storage.open_ranges(file, size) as opened:
                for block in _blocks(inventory, opened):
                    yield list(_audio(block, inventory, files))
        except _BROKEN as error:
            raise errors.ManifestError(f"{inventory.subject}: {uris.shown(file)}: {parse.reason(error)}") from error


def is_inventory(uri: str) -> bool:
    """Return whether a URI is an inventory's manifest.json: other JSON lists have no such keys."""
    if not uri.lower().endswith(EXTENSION) or storage.info(uri).bytes > MOST_BYTES:
        return False
    try:
        content = json.loads(storage.read(uri))
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and not _KEYS.isdisjoint(content)


def _described(uri: str) -> _Inventory:
    subject = f"inventory {uris.shown(uri)}"
    if (size := storage.info(uri).bytes) > MOST_BYTES:
        raise errors.ManifestError(f"{subject}: {size:,} bytes, expected the manifest.json of an S3 Inventory")
    try:
        content = json.loads(storage.read(uri))
        target, kind, schema = (str(content[name]) for name in ("destinationBucket", "fileFormat", "fileSchema"))
        files = tuple((str(file["key"]), int(file["size"])) for file in content["files"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise errors.ManifestError(
            f"{subject}: not the manifest.json of an S3 Inventory ({type(error).__name__}: {parse.reason(error)})"
        ) from error
    if kind.upper() not in ("CSV", "PARQUET"):
        raise errors.ManifestError(f"{subject}: its files are {uris.printable(kind, 20)}, expected CSV or Parquet")
    bucket = target.removeprefix(_BUCKET_ARN)
    located = tuple((f"s3://{bucket}/{key}", size) for key, size in files)
    for file, _ in located:
        uris.check(file)
    return _Inventory(uri, kind.upper() == "CSV", tuple(map(_name, schema.split(","))), located)


def _name(column: str) -> str:
    return column.strip().replace("_", "").lower()


def _blocks(inventory: _Inventory, opened: IO[bytes]) -> Iterator[pa.Table]:
    """Yield a file's rows block by block, with those of `_COLUMNS` that it has, as text."""
    if inventory.is_csv:
        _refuse_missing(inventory, set(inventory.columns))
        read_columns = [name for name in inventory.columns if name in _COLUMNS]
        plain = pa.PythonFile(gzip.GzipFile(fileobj=opened), mode="r")
        batches = pyarrow.csv.open_csv(
            plain,
            read_options=pyarrow.csv.ReadOptions(column_names=list(inventory.columns), block_size=BLOCK_BYTES, use_threads=False),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=read_columns, column_types=dict.fromkeys(inventory.columns, pa.string())
            ),
        )
        yield from (pa.Table.from_batches([batch]) for batch in batches)
        return
    file = pyarrow.parquet.ParquetFile(pa.PythonFile(opened, mode="r"))
    names = {name: _name(name) for name in file.schema_arrow.names if _name(name) in _COLUMNS}
    _refuse_missing(inventory, set(names.values()))
    for batch in file.iter_batches(BLOCK_ROWS, columns=list(names), use_threads=False):
        batch.validate(full=True)
        columns = {names[name]: batch.column(name).cast(pa.string()) for name in batch.schema.names}
        yield pa.table(columns)


def _refuse_missing(inventory: _Inventory, columns: set[str]) -> None:
    if missing := _NEEDED - columns:
        raise errors.ManifestError(f"{inventory.subject}: no column {', '.join(sorted(missing))}")


def _audio(block: pa.Table, inventory: _Inventory, files: AudioFiles) -> Iterator[Info]:
    """Yield the audio files of a block, as a listing of its bucket would."""
    for name, expected in (("islatest", "true"), ("isdeletemarker", "false")):
        if name in block.column_names:
            block = block.filter(pc.equal(pc.utf8_lower(block.column(name)), expected))
    keys = [unquote_plus(key) if inventory.is_csv else key for key in block.column("key").to_pylist()]
    is_audio = [files.sort(key) == "audio" for key in keys]
    for key, row in zip(compress(keys, is_audio), block.filter(pa.array(is_audio, pa.bool_())).to_pylist(), strict=True):
        size, etag = row.get("size"), row.get("etag")
        files.folder = f"s3://{row['bucket']}"
        info = Info(f"{files.folder}/{key}", int(size) if size else 0, etag.strip('"') if etag else None)
        yield from files.of([info])
