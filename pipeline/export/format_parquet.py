"""Parquet: a row an excerpt. As `parquet`, a stem's column holds the encoded file; as `hf`, what `datasets` reads as audio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline.export.formats import Excerpt, Place

ROW_GROUP_BYTES = 64 << 20  # of audio; readers take a row group at once


class Table:
    """Writes one shard."""

    def __init__(self, place: Place) -> None:
        self._place, self._path = place, place.path("shard")
        self._rows, self._held = list[dict[str, Any]](), 0
        ours = {*place.settings.waves, *(field.name for field in _ours(place))}
        self._extra = {name: f"manifest_{name}" if name in ours else name for name in place.extra.names}
        self._schema = _schema(place, self._extra)
        self._writer = pyarrow.parquet.ParquetWriter(self._path, self._schema, compression="zstd")

    def add(self, excerpt: Excerpt) -> None:
        """Take the next excerpt."""
        audio = excerpt.cut.audio
        if self._place.settings.to == "hf":
            name = f"{excerpt.key}.{{}}.{self._place.settings.codec}"
            files: dict[str, Any] = {stem: {"bytes": held, "path": name.format(stem)} for stem, held in audio.items()}
        else:
            files = dict(audio)
        extra = {self._extra[name]: value for name, value in excerpt.extra.items()}
        self._rows.append(excerpt.described() | extra | files)
        self._held += sum(len(held) for held in audio.values())
        if self._held >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> dict[str, Path]:
        """End the shard; return its file, by its path in DEST."""
        self._flush()
        self._writer.close()
        return {f"{self._place.split}/{self._place.number:06d}.parquet": self._path}

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._held = [], 0


def _ours(place: Place) -> list[pa.Field]:
    settings = place.settings
    known = [("key", pa.string()), ("id", pa.string()), ("start_s", pa.float64()), ("seconds", pa.float64())]
    known += [("sample_rate_hz", pa.int32()), *((f"{stem}_active", pa.float64()) for stem in settings.stems)]
    return [pa.field(name, kind) for name, kind in known]


def _schema(place: Place, extra: dict[str, str]) -> pa.Schema:
    fields = [*_ours(place), *(field.with_name(extra[field.name]) for field in place.extra)]
    if place.settings.to == "parquet":
        return pa.schema([*fields, *((name, pa.binary()) for name in place.settings.waves)])
    import datasets

    audio = {name: datasets.Audio(sampling_rate=place.settings.sample_rate_hz) for name in place.settings.waves}
    return datasets.Features(datasets.Features.from_arrow_schema(pa.schema(fields)) | audio).arrow_schema
