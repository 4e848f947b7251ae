"""Long tracks: the stored parts of a track are gathered, and joined to its stems once all are there.

A part lies as raw little-endian samples, as its codec takes them, so a join only reads, encodes and puts.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import audio, failures, storage
from sep_batch.pipeline.rows import WRITTEN, each, fill, value
from sep_batch.pipeline.work import Work, failed


def store(row: pa.Table, waves: np.ndarray, work: Work) -> pa.Table:
    """Store one part's stems, and return its row, whose status is null: a part is no finished track.

    Args:
        row: The part's.
        waves: (stems, channels, samples) float32.
        work: What the run is about.
    """
    begun, settings = time.perf_counter(), work.settings
    stems = []
    for stem, wave in zip(settings.stems, waves, strict=True):
        frames = audio.raw(wave, settings.codec)
        storage.put(_part_uri(row, stem, work), frames.tobytes(), scratch=work.scratch)
        stems.append({"stem": stem, "frames": len(frames), **audio.levels(wave)})
    return fill(row, WRITTEN, stems=stems, write_s=time.perf_counter() - begun)


class Gathering:
    """The stored parts of the tracks that are not whole yet."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[int, pa.Table]] = {}
        self._failed: set[str] = set()

    def take(self, rows: pa.Table) -> tuple[list[pa.Table], list[list[pa.Table]]]:
        """Take what comes out of the flow, in any order.

        Returns:
            The rows of finished tracks, of which one that failed in several parts fails once; and for each track that
            is whole now, its parts' rows in order.
        """
        finished, whole = [], []
        for row in each(rows):
            name, status = value(row, "id"), value(row, "status")
            if name in self._failed:
                continue
            if status == "failed":
                self._failed.add(name)
                self._parts.pop(name, None)
            if status is not None:
                finished.append(row)
            elif parts := self._with(name, row):
                whole.append(parts)
        return finished, whole

    def _with(self, name: str, row: pa.Table) -> list[pa.Table]:
        """Return a track's parts in order, where this one completes it."""
        parts = self._parts.setdefault(name, {})
        parts[value(row, "part")] = row
        last = next((number for number, part in parts.items() if value(part, "last")), None)
        if last is None or len(parts) <= last:
            return []
        del self._parts[name]
        return [parts[number] for number in range(last + 1)]


def join(parts: Sequence[pa.Table], work: Work) -> pa.Table:
    """Stream a track's stored parts through its encoders, put its stems, and return its one row, ok or failed.

    Args:
        parts: The rows of all its parts, in order.
        work: What the run is about.
    """
    last = parts[-1]
    try:
        begun = time.perf_counter()
        stems = [_joined_stem(parts, place, work) for place in range(len(work.settings.stems))]
        seconds = {name: sum(value(part, name) for part in parts) for name in ("decode_s", "separate_s", "write_s")}
        seconds["write_s"] += time.perf_counter() - begun
        above, energy = (sum(value(part, name) for part in parts) for name in ("energy_above_f", "energy"))
        return finish(last, stems, work, parts=len(parts), above_f_db=ratio_db(above, energy), **seconds)
    except Exception as error:  # noqa: BLE001 (a failure is a row)
        return fill(failed(last, error, "write", work), WRITTEN)


def finish(row: pa.Table, stems: list[dict[str, Any]], work: Work, **values: Any) -> pa.Table:
    """Return the row of a track whose stems are all durable."""
    done = {"finished_at": datetime.now(UTC), "run_id": work.run}
    return fill(row, WRITTEN, status="ok", stems=stems, **done, **values)


def ratio_db(part: float, whole: float) -> float | None:
    """Return an energy as a share of another, in dB; None where either is nothing."""
    return 10 * math.log10(part / whole) if part > 0 and whole > 0 else None


def _joined_stem(parts: Sequence[pa.Table], place: int, work: Work) -> dict[str, Any]:
    settings, measured = work.settings, [value(part, "stems")[place] for part in parts]
    stem, samples = settings.stems[place], sum(part["frames"] for part in measured)
    rate_hz, channels = settings.spec.sample_rate_hz, settings.spec.channels
    loudness = audio.Loudness(rate_hz)
    Path(work.scratch).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work.scratch, prefix="join-") as folder:
        path = Path(folder) / stem
        form = {"channels": channels, "rate_hz": rate_hz, "bitrate": settings.bitrate, "samples": samples}
        with audio.Encoder(str(path), settings.codec, **form) as encoder:
            for part in parts:
                for frames in _stored(part, stem, work):
                    encoder.add(frames)
                    loudness.add(audio.wave_of(frames))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size, uri = path.stat().st_size, work.stem_uri(parts[0], stem)
        storage.put_file(f"{work.out}/{uri}", path)
    levels = audio.joined_levels(measured) | {"lufs": loudness.lufs()}
    return work.stem(stem, uri=uri, size=size, sha256=digest, frames=samples, levels=levels)


def _stored(part: pa.Table, stem: str, work: Work) -> Iterator[np.ndarray]:
    """Yield a stored part's samples in blocks, (samples, channels).

    Raises:
        WriteFailed: It is not there, or shorter than what was stored.
    """
    settings, uri, missing = work.settings, _part_uri(part, stem, work), value(part, "samples")
    width = settings.spec.channels * settings.codec.dtype.itemsize
    try:
        source, _ = storage.open_source(uri)
    except failures.TrackError as error:
        raise failures.WriteFailed(f"a stored part: {error}") from error
    with source:
        while content := source.read(audio.BLOCK * width):
            frames = np.frombuffer(content, settings.codec.dtype).reshape(-1, settings.spec.channels)
            missing -= len(frames)
            yield frames
    if missing:
        raise failures.WriteFailed(f"{uri}: {missing} of {value(part, 'samples')} samples are missing from a stored part")


def _part_uri(row: pa.Table, stem: str, work: Work) -> str:
    return f"{work.parts}/{value(row, 'id')}/{value(row, 'part')}.{stem}"
