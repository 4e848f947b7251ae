"""`verify --deep`: every stem is read, hashed and decoded, some at once and none held whole above 64 MB."""

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
STEMS = 1000  # that are handed to them at once
CODEC_OF = {codec.encoder: codec for depths in codecs.CODECS.values() for codec in depths.values()}


def read_stems(database: duckdb.DuckDBPyConnection, out: str, report: Callable[[int], None]) -> None:
    """Read every stem that is there with its size, and add to `findings` those whose sha256 or length is another.

    Args:
        database: As `findings.collect` leaves it.
        out: OUT.
        report: Called with how many more were read.
    """
    stems = database.cursor().execute(
        "SELECT id, w.uri, sha256, frames, audio_s, codec, sample_rate_hz "
        "FROM wanted w JOIN listed l ON w.uri = l.uri AND w.bytes = l.bytes"
    )
    with ThreadPoolExecutor(READERS) as pool:
        while few := stems.fetchmany(STEMS):
            faults = pool.map(lambda stem: _fault(f"{out}/{stem[1]}", *stem[2:]), few)
            bad = [(fault[0], *stem[:2], fault[1]) for stem, fault in zip(few, faults, strict=True) if fault]
            if bad:
                database.executemany("INSERT INTO findings VALUES (?, ?, ?, ?)", bad)
            report(len(few))


def _fault(uri: str, sha256: str, frames: int, audio_s: float, encoder: str, rate_hz: int | None) -> tuple[str, str] | None:
    """Read one stem; return the kind of what is wrong, and what was found."""
    digest, codec = hashlib.sha256(), CODEC_OF[encoder]
    rate_hz = rate_hz or round(frames / audio_s)  # rows of before there were others than the model's
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
    """Decode a stem, and return its samples a channel and its rate."""
    if codec.encoder == "vorbis":
        return vorbis.length(source)
    pieces, decoded = audio.decode(source, rate_hz=rate_hz)
    return sum(piece.shape[1] for piece in pieces), decoded.rate_hz
