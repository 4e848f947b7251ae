"""`verify --deep`: every stem is read, hashed and decoded, some at once and none held whole above 64 MB."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import duckdb

from sep_batch.pipeline import audio, codecs, failures, storage

READERS = 8  # threads; each holds at most storage.WHOLE_READ_BYTES
STEMS = 1000  # that are handed to them at once
LAST_FRAME = 1152  # samples by which an MP3 may decode longer: its encoder fills the last frame


def read_stems(database: duckdb.DuckDBPyConnection, out: str, told: Callable[[int], None]) -> None:
    """Read every stem that is there with its size, and add to `findings` those whose sha256 or length is another.

    Args:
        database: As `findings.collect` leaves it.
        out: OUT.
        told: Called with how many more were read.
    """
    stems = database.cursor().execute(
        "SELECT id, w.uri, sha256, frames, audio_s, codec FROM wanted w JOIN listed l ON w.uri = l.uri AND w.bytes = l.bytes"
    )
    with ThreadPoolExecutor(READERS) as pool:
        while few := stems.fetchmany(STEMS):
            faults = pool.map(lambda stem: _fault(f"{out}/{stem[1]}", *stem[2:]), few)
            bad = [(fault[0], *stem[:2], fault[1]) for stem, fault in zip(few, faults, strict=True) if fault]
            if bad:
                database.executemany("INSERT INTO findings VALUES (?, ?, ?, ?)", bad)
            told(len(few))


def _fault(uri: str, sha256: str, frames: int, audio_s: float, codec: str) -> tuple[str, str] | None:
    """Read one stem; return the kind of what is wrong, and what was found."""
    digest = hashlib.sha256()
    try:
        source, _ = storage.open_source(uri)
        with source:
            while block := source.read(1 << 20):
                digest.update(block)
            if digest.hexdigest() != sha256:
                return "bytes", f"sha256 {digest.hexdigest()}, expected {sha256}"
            source.seek(0)
            rate_hz = round(frames / audio_s)
            pieces, decoded = audio.decode(source, rate_hz=rate_hz)
            samples = sum(piece.shape[1] for piece in pieces)
    except failures.NotFound:
        return "missing", "not there"
    except failures.StorageUnusable:
        raise
    except failures.TrackError as error:
        return ("unread" if error.stage == failures.FetchTimeout.stage else "decode"), str(error)
    if decoded.rate_hz != rate_hz:
        return "decode", f"{decoded.rate_hz} Hz, expected {rate_hz}"
    longer = LAST_FRAME if codec == codecs.CODECS["mp3"][""].encoder else 0
    return None if 0 <= samples - frames <= longer else ("decode", f"{samples} samples, expected {frames}")
