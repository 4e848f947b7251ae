"""Durations of the tracks of a plan: from OUT's journal, the manifest, or some file headers; the rest is estimated.

A file size gives a duration with the bytes a second of its file type: those of OUT's own sources, else of the headers that were
read, else the usual ones (`BYTES_S`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.plan.known_sizes import KnownSizes
from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.manifest.probe import HEAD_BYTES, LENGTHS, as_numbers, extra_numbers
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.storage import uris

SIZE = "size"  # column of a manifest with the file size in bytes
HEADERS = 100  # headers to read, evenly spread over the tracks of unknown duration
HEADERS_S = 10.0  # time limit for all of them
HEADERS_AT_ONCE = 16
BYTES_S = {"wav": 176_400.0, "aif": 176_400.0, "aiff": 176_400.0, "flac": 100_000.0, "opus": 16_000.0, "ogg": 20_000.0}
OTHER_BYTES_S = 24_000.0  # 192 kbit/s: mp3, m4a and the like


@dataclass(frozen=True)
class Lengths:
    """Durations to separate, in seconds, in no order.

    Attributes:
        known: Durations from OUT's journal, the manifest, or a header.
        estimated: Durations from file sizes, or the mean of the others.
        unknown: Number of tracks of unknown duration.
    """

    known: np.ndarray
    estimated: np.ndarray
    unknown: int = 0


@dataclass(frozen=True)
class _Tracks:
    """Tracks of a plan, a value each.

    Attributes:
        uris: URIs of the files.
        sizes: File sizes in bytes, NaN where unknown.
        begin: Offsets in seconds.
        longest: Upper bounds of the durations, in seconds.
    """

    uris: pa.ChunkedArray
    sizes: np.ndarray
    begin: np.ndarray
    longest: np.ndarray

    def excerpt(self, whole: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the durations that offset and bound leave of whole files, for these rows."""
        excerpts: np.ndarray = np.minimum(np.maximum(0.0, whole - self.begin[rows]), self.longest[rows])
        return excerpts


def lengths(todo: pa.Table, settings: Settings, past: KnownSizes) -> Lengths:
    """Return the durations of the tracks.

    Args:
        todo: Tracks that are left to do.
        settings: Settings of the run.
        past: Durations and sizes from OUT's journal.
    """
    most = as_numbers(todo.column("duration_s"), math.inf if settings.duration_s is None else settings.duration_s)
    begin = as_numbers(todo.column("offset_s"), settings.offset_s)
    tracks = _Tracks(todo.column("uri"), extra_numbers(todo, (SIZE,)), begin, np.minimum(most, audio.MAX_S))
    whole = extra_numbers(todo, LENGTHS) if past.seconds is None else _first(past.seconds, extra_numbers(todo, LENGTHS))
    whole[np.isnan(whole) & np.isfinite(most)] = math.inf
    measured, unmeasured = np.flatnonzero(~np.isnan(whole)), np.flatnonzero(np.isnan(whole))
    durations = tracks.excerpt(whole[measured], measured)
    return _with_headers(durations, tracks, unmeasured, past) if len(unmeasured) else Lengths(durations, np.empty(0))


def _with_headers(durations: np.ndarray, tracks: _Tracks, unmeasured: np.ndarray, past: KnownSizes) -> Lengths:
    """Read the headers of a sample of the tracks without a duration, and estimate the rest."""
    sample = unmeasured[:: math.ceil(len(unmeasured) / HEADERS)]
    sources = [tracks.uris[int(row)].as_py() for row in sample]
    headers = _headers(sources, tracks.sizes[sample])
    answers = [(row, uri, *answer) for row, uri, answer in zip(sample, sources, headers, strict=True) if answer]
    answered = np.array([row for row, *_ in answers], np.int64)
    probed = tracks.excerpt(np.array([seconds for *_, seconds, _ in answers]), answered)
    rates = {**BYTES_S, **_rates((_kind(uri), (seconds, size)) for _, uri, seconds, size in answers), **past.source_bytes_s}
    left = np.setdiff1d(unmeasured, answered, assume_unique=True)
    sized = left[~np.isnan(tracks.sizes[left])]
    by_size = tracks.excerpt(tracks.sizes[sized] / _bytes_s(tracks.uris, rates)[sized], sized) if len(sized) else np.empty(0)
    others, rest = probed if len(probed) else np.concatenate([durations, by_size]), len(left) - len(sized)
    if rest and not len(others):
        return Lengths(durations, by_size, rest)
    estimated = np.concatenate([by_size, np.full(rest, others.mean() if rest else 0.0)])
    return Lengths(np.concatenate([durations, probed]), estimated)


def _rates(answers: Iterable[tuple[str, tuple[float, float]]]) -> dict[str, float]:
    """Return bytes a second by file type, from pairs of seconds and bytes."""
    sums: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for kind, answer in answers:
        sums[kind].append(answer)
    return {kind: sum(size for _, size in pairs) / sum(seconds for seconds, _ in pairs) for kind, pairs in sums.items()}


def _kind(uri: str) -> str:
    return uris.name(uri).rpartition(".")[2].lower()


def _bytes_s(sources: pa.ChunkedArray, rates: Mapping[str, float]) -> np.ndarray:
    """Return the bytes a second of each URI's file type."""
    kinds = pc.utf8_lower(pc.replace_substring_regex(sources, "^.*[./]", "")).dictionary_encode()
    by_kind = ([rates.get(kind, OTHER_BYTES_S) for kind in block.dictionary.to_pylist()] for block in kinds.chunks)
    return np.concatenate([np.array(values)[block.indices] for values, block in zip(by_kind, kinds.chunks, strict=True)])


def _headers(sources: Sequence[str], sizes: np.ndarray) -> list[tuple[float, float] | None]:
    """Return seconds and bytes of each file, None for a file without an answer in time."""
    pool = ThreadPoolExecutor(HEADERS_AT_ONCE)
    futures = [pool.submit(_header, uri, size) for uri, size in zip(sources, sizes.tolist(), strict=True)]
    wait(futures, timeout=HEADERS_S)
    pool.shutdown(wait=False, cancel_futures=True)
    return [future.result() if future.done() and not future.cancelled() else None for future in futures]


def _header(uri: str, known_size: float) -> tuple[float, float] | None:
    try:
        size = int(storage.info(uri).bytes if math.isnan(known_size) else known_size)
        with storage.open_ranges(uri, size, HEAD_BYTES) as source:
            seconds = audio.probe(source, silent_s=HEADERS_S).seconds
    except Exception:  # noqa: BLE001 (the run will report the error in the track's row)
        return None
    return (min(seconds, audio.MAX_S), size) if seconds else None


def _first(preferred: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(preferred), other, preferred)
