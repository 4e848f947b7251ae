"""`verify --deep`: read, hash and decode every stem, `READERS` at a time; none larger than 64 MB is held in memory whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import duckdb

from sep_batch.pipeline import audio, errors, storage
from sep_batch.pipeline.audio import codecs, vorbis
from sep_batch.pipeline.audio.resample import resampled

READERS = 8  # threads; each holds at most storage.WHOLE_READ_BYTES
STEMS = 1000  # stems that are queued for them at a time


def read_stems(database: duckdb.DuckDBPyConnection, out: str, report: Callable[[int], None]) -> None:
    """Read every stem that exists with the recorded size, and add those with another SHA-256, length or rate to `findings`.

    Args:
        database: Database of the journal, after `checks.collect`.
        out: OUT.
        report: Called with the number of stems read since the last call.
    """
    stems = database.cursor().execute(
        "SELECT id, w.uri, sha256, frames, audio_s, codec, sample_rate_hz "
        "FROM wanted w JOIN listed l ON w.uri = l.uri AND w.bytes = l.bytes"
    )
    with ThreadPoolExecutor(READERS) as pool:
        while batch := stems.fetchmany(STEMS):
            faults = pool.map(lambda stem: _fault(f"{out}/{stem[1]}", *stem[2:]), batch)
            bad = [(fault[0], *stem[:2], fault[1]) for stem, fault in zip(batch, faults, strict=True) if fault]
            if bad:
                database.executemany("INSERT INTO findings VALUES (?, ?, ?, ?)", bad)
            report(len(batch))


def _fault(uri: str, sha256: str, frames: int, audio_s: float, encoder: str, rate_hz: int | None) -> tuple[str, str] | None:
    """Read one stem; return the kind and the description of its fault, None without a fault."""
    digest, codec = hashlib.sha256(), codecs.BY_ENCODER[encoder]
    rate_hz = rate_hz or round(frames / audio_s)  # older rows have no rate: it was the model's
    expected_hz = codec.decodes_hz or rate_hz
    expected = resampled(frames, rate_hz, expected_hz)
    try:
        source, _ = storage.open_source(uri)
        with source:
            while block := source.read(1 << 20):
                digest.update(block)
            if digest.hexdigest() != sha256:
                return "bytes", f"sha256 {digest.hexdigest()}, expected {sha256}"
            source.seek(0)
            samples, found_hz = _length(source, codec, expected_hz)
    except errors.NotFound:
        return "missing", "not there"
    except errors.StorageUnusable:
        raise
    except errors.TrackError as error:
        return ("unread" if error.stage == errors.FetchTimeout.stage else "decode"), str(error)
    if found_hz != expected_hz:
        return "decode", f"{found_hz} Hz, expected {expected_hz}"
    return None if 0 <= samples - expected <= codec.longer else ("decode", f"{samples} samples, expected {expected}")


def _length(source: IO[bytes], codec: codecs.Codec, rate_hz: int) -> tuple[int, int]:
    """Decode a stem; return its samples per channel and its sample rate in Hz."""
    if codec.encoder == "vorbis":
        return vorbis.length(source)
    pieces, decoded = audio.decode(source, rate_hz=rate_hz)
    return sum(piece.shape[1] for piece in pieces), decoded.rate_hz
