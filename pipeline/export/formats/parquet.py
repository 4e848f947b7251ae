"""Parquet: one row per excerpt. A stem's column holds the encoded file; in `hf`, a struct that `datasets` reads as audio.

`datasets` has no maps: in `hf`, a map is a list of structs of `key` and `value`, which is how Arrow stores it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline.export import columns
from sep_batch.pipeline.export.formats.base import Excerpt, ShardFolder

ROW_GROUP_BYTES = 64 << 20  # of audio; readers read a row group at once
_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # type of `datasets.Audio`


class Table:
    """Writes one shard."""

    def __init__(self, shard: ShardFolder) -> None:
        self._shard, self._path = shard, shard.path("shard")
        self._rows, self._held = list[dict[str, Any]](), 0
        self._schema = _schema(shard)
        self._written = _features(self._schema, shard) if shard.settings.to == "hf" else self._schema
        self._writer = pyarrow.parquet.ParquetWriter(self._path, self._written, compression="zstd")

    def add(self, excerpt: Excerpt) -> None:
        """Add the next excerpt."""
        audio = excerpt.cut.audio
        if self._shard.settings.to == "hf":
            name = f"{excerpt.key}.{{}}.{self._shard.settings.codec}"
            files: dict[str, Any] = {stem: {"bytes": held, "path": name.format(stem)} for stem, held in audio.items()}
        else:
            files = dict(audio)
        self._rows.append(excerpt.described() | dict(excerpt.extra) | files)
        self._held += sum(len(held) for held in audio.values())
        if self._held >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> dict[str, Path]:
        """End the shard; return its file, by its path in DEST."""
        self._flush()
        self._writer.close()
        return {f"{self._shard.split}/{self._shard.number:06d}.parquet": self._path}

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema).cast(self._written))
        self._rows, self._held = [], 0


def _schema(shard: ShardFolder) -> pa.Schema:
    """Return the schema of rows as they are added."""
    settings, text, number = shard.settings, pa.string(), pa.float64()
    kinds = dict(zip(columns.OF_AN_EXCERPT, (text, text, number, number, pa.int32()), strict=True))
    kinds |= {columns.active(stem): number for stem in settings.stems}
    kind = _FILE if settings.to == "hf" else pa.binary()
    return pa.schema([*map(pa.field, kinds, kinds.values()), *shard.extra, *(pa.field(name, kind) for name in settings.waves)])


def _features(schema: pa.Schema, shard: ShardFolder) -> pa.Schema:
    """Return a schema as `datasets` writes it: without maps, and with its own description of the columns."""
    import datasets

    waves = shard.settings.waves
    plain = pa.schema([field.with_type(_without_maps(field.type)) for field in schema if field.name not in waves])
    audio = {name: datasets.Audio(sampling_rate=shard.settings.sample_rate_hz) for name in waves}
    return datasets.Features(datasets.Features.from_arrow_schema(plain) | audio).arrow_schema


def _without_maps(kind: pa.DataType) -> pa.DataType:
    """Return a type in which maps, at any depth, are lists of structs of key and value."""
    if pa.types.is_map(kind):
        pairs = [("key", _without_maps(kind.key_type)), ("value", _without_maps(kind.item_type))]
        return pa.list_(pa.struct(pairs))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_maps(field.type)) for field in kind])
    return pa.list_(_without_maps(kind.value_type)) if pa.types.is_list(kind) else kind
