"""Long tracks: the stored parts of a track are collected, and joined to its stems once all of them are there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.rows import WRITTEN, each, fill, value
from sep_batch.pipeline.stages import analysis, stem_tags, stems
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.estimates import filter_parts
from sep_batch.pipeline.stages.failed_rows import failed
from sep_batch.pipeline.stages.stored_parts import blocks


class Gathering:
    """The stored parts of the tracks whose parts are not complete yet."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[int, pa.Table]] = {}
        self._failed: set[str] = set()

    def take(self, rows: pa.Table) -> tuple[list[pa.Table], list[list[pa.Table]]]:
        """Take rows that leave the flow, in any order.

        Returns:
            The rows of finished tracks, with one row for a track that failed in several parts; and for each track whose
            parts are complete now, their rows in order.
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
        """Return a track's parts in order where this row completes them, else an empty list."""
        parts = self._parts.setdefault(name, {})
        parts[value(row, "part")] = row
        last = next((number for number, part in parts.items() if value(part, "last")), None)
        if last is None or len(parts) <= last:
            return []
        del self._parts[name]
        return [parts[number] for number in range(last + 1)]


def join(parts: Sequence[pa.Table], work: RunContext) -> pa.Table:
    """Stream a track's stored parts through its encoders, put its stems, and return its one row, ok or failed.

    Args:
        parts: Rows of all parts of the track, in order.
        work: Context of the run.
    """
    last = parts[-1]
    try:
        parts = filter_parts(parts, work) if work.settings.mwf else parts
        begun = time.perf_counter()
        with ThreadPoolExecutor() as threads:
            written = list(threads.map(lambda number: _joined_stem(parts, number, work), range(len(work.settings.written_stems))))
        seconds = {name: sum(value(part, name) for part in parts) for name in ("decode_s", "separate_s", "write_s")}
        seconds["write_s"] += time.perf_counter() - begun
        above, energy = (sum(value(part, name) for part in parts) for name in ("energy_above_f", "energy"))
        ratios = {"above_f_db": stems.ratio_db(above, energy), "null_db": stems.null_db(_null_energies(parts))}
        return finish(last, written, work, parts=len(parts), **ratios, **seconds)
    except Exception as error:  # noqa: BLE001 (a failure is a row)
        return fill(failed(last, error, "write", work), WRITTEN)


def _null_energies(parts: Sequence[pa.Table]) -> np.ndarray:
    total: np.ndarray = np.sum([value(part, "null_energies") for part in parts], axis=0)
    return total


def finish(row: pa.Table, written: list[dict[str, Any]], work: RunContext, **values: Any) -> pa.Table:
    """Return the finished row of a track whose stems are all durable."""
    done = {"finished_at": datetime.now(UTC), "run_id": work.run}
    done |= dict.fromkeys(("sums", "k_weighted", "null_energies", "tags"))
    return fill(row, WRITTEN, status="ok", stems=written, **done, **values)


def _joined_stem(parts: Sequence[pa.Table], stem_number: int, work: RunContext) -> dict[str, Any]:
    measured = stems.joined([value(part, "stems")[stem_number] for part in parts])
    measured |= analysis.of_parts(parts, stem_number, work.settings)
    measured["lufs"] = stems.lufs(parts, stem_number, work.settings)
    stem, samples, uri = measured["stem"], measured["frames"], work.stem_uri(parts[0], measured["stem"])
    Path(work.scratch).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=work.scratch, prefix="join-") as folder:
        path = Path(folder) / stem
        frames = (block for part in parts for block in _stored(part, stem, work))
        tags = stem_tags.of_stem(parts[0], stem, work.settings)
        stems.write(str(path), frames, work.settings, samples=samples, tags=tags)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        work.refuse_ended()
        storage.put_file(f"{work.out}/{uri}", path)
    return work.stem(measured, uri=uri, size=size, sha256=digest)


def _stored(part: pa.Table, stem: str, work: RunContext) -> Iterator[np.ndarray]:
    """Yield a stored part's samples in blocks, (samples, channels)."""
    channels, dtype = work.settings.spec.channels, work.settings.form.dtype
    width = channels * dtype.itemsize
    for content in blocks(part, stem, work, size=codecs.BLOCK * width, total=value(part, "samples") * width):
        yield np.frombuffer(content, dtype).reshape(-1, channels)
