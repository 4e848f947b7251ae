"""Synthesised catalogs on disk."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from signals import RATE_HZ, tone

from sep_batch.pipeline import storage
from sep_batch.pipeline.audio import codecs, decoding
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.out import database
from sep_batch.pipeline.rows import STEM

WAV = codecs.CODECS["wav"]["16"]


def write_tone(path: Path, hz: float = 440, seconds: float = 0.5, codec: codecs.Codec = WAV, rate_hz: int = RATE_HZ) -> Path:
    """Write a stereo tone of half a full scale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = tone(hz, round(seconds * rate_hz), rate_hz=rate_hz)
    path.write_bytes(encode(wave, codec, rate_hz=rate_hz, bitrate=None if codec.samples.startswith("s") else 192_000))
    return path


def decoded(content: bytes, *, rate_hz: int = RATE_HZ, **options: Any) -> SimpleNamespace:
    """Decode a whole file: what was found, and its `wave`."""
    pieces, found = decoding.decode(io.BytesIO(content), rate_hz=rate_hz, **options)
    wave = np.concatenate(list(pieces), axis=1)
    return SimpleNamespace(wave=wave, **vars(found))


def stems_below(out: Path | str) -> dict[str, bytes]:
    """Return every stem below OUT with its bytes, by its path in OUT; OUT is a path or a URI."""
    files = {info.uri.removeprefix(f"{out}/"): info.uri for info in storage.find(str(out))}
    return {name: storage.read(uri) for name, uri in sorted(files.items()) if name.split("/")[0] not in ("_sep", "index.parquet")}


def without_analysis(path):
    """Rewrite a journal file or an index as it was before stems were analysed: their structs have fewer fields."""
    table = pyarrow.parquet.read_table(path)
    fields = [STEM.field(place) for place in range(STEM.get_field_index("clipped_samples") + 1)]
    rows = [
        stems and [{field.name: stem[field.name] for field in fields} for stem in stems] for stems in table["stems"].to_pylist()
    ]
    place, kind = table.column_names.index("stems"), pa.list_(pa.struct(fields))
    pyarrow.parquet.write_table(table.set_column(place, "stems", pa.array(rows, kind)), path)


def finished(out: str) -> dict[str, SimpleNamespace]:
    """Return the newest row of every id ever run in an OUT, by id."""
    with database.opened(out) as journal:
        rows = journal.database.sql("SELECT * EXCLUDE (_sep_file, _sep_place) FROM newest").to_arrow_table().to_pylist()
    return {row["id"]: SimpleNamespace(**row) for row in rows}
