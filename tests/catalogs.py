"""Synthesised catalogs on disk."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from signals import RATE_HZ, tone

from sep_batch.pipeline import audio, index

WAV = audio.CODECS["wav"]["16"]


def write_tone(path: Path, hz: float = 440, seconds: float = 0.5, codec: audio.Codec = WAV, rate_hz: int = RATE_HZ) -> Path:
    """Write a stereo tone of half a full scale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = tone(hz, round(seconds * rate_hz), rate_hz=rate_hz)
    path.write_bytes(audio.encode(wave, codec, rate_hz=rate_hz, bitrate=None if codec.samples.startswith("s") else 192_000))
    return path


def decoded(content: bytes, *, rate_hz: int = RATE_HZ, **options: float) -> SimpleNamespace:
    """Decode a whole file: what was found, and its `wave`."""
    pieces, found = audio.decode(io.BytesIO(content), rate_hz=rate_hz, **options)
    wave = np.concatenate(list(pieces), axis=1)
    return SimpleNamespace(wave=wave, **vars(found))


def stems_below(out: Path) -> dict[str, bytes]:
    """Return every stem below OUT with its bytes."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("stems/**/*")) if path.is_file()}


def finished(out: str) -> dict[str, SimpleNamespace]:
    """Return the newest row of every id ever run in an OUT, by id."""
    with index.opened(out) as journal:
        rows = journal.database.sql("SELECT * EXCLUDE (_sep_file, file_row_number) FROM newest").to_arrow_table().to_pylist()
    return {row["id"]: SimpleNamespace(**row) for row in rows}
