"""Durations of the tracks of a plan: from OUT and the manifest, and for the rest from the headers of a few.

A size tells a length only with the bytes a second of such files: OUT's own had them, or the headers that are read say it of this
catalog; failing both, what is usual for the kind of file.
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
from sep_batch.pipeline.manifest.probe import HEAD_BYTES
from sep_batch.pipeline.rows import EXTRA
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.storage import uris

LENGTHS = ("probed_s", "duration", "manifest_audio_s")  # further columns of a manifest that say how long a file is
SIZE = "size"
HEADERS = 100  # are read, evenly spread over the tracks of which no length is known
HEADERS_S = 10.0  # and no longer
HEADERS_AT_ONCE = 16
BYTES_S = {"wav": 176_400.0, "aif": 176_400.0, "aiff": 176_400.0, "flac": 100_000.0, "opus": 16_000.0, "ogg": 20_000.0}
OTHER_BYTES_S = 24_000.0  # 192 kbit/s: mp3, m4a and the like


@dataclass(frozen=True)
class Lengths:
    """Seconds to separate of each track, in no order.

    Attributes:
        known: From OUT's journal, the manifest, or a header.
        estimated: From sizes, or the mean of the others.
        unknown: How many tracks nothing is known of.
    """

    known: np.ndarray
    estimated: np.ndarray
    unknown: int = 0


@dataclass(frozen=True)
class _Asked:
    """What is asked of the tracks, all (tracks,).

    Attributes:
        uris: Where they lie.
        sizes: In bytes, NaN where they are not known.
        begin: Seconds that are left out.
        longest: Seconds that are left at most.
    """

    uris: pa.ChunkedArray
    sizes: np.ndarray
    begin: np.ndarray
    longest: np.ndarray

    def excerpt(self, whole: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return what offset and duration leave of lengths; no more than a track may last."""
        excerpts: np.ndarray = np.minimum(np.maximum(0.0, whole - self.begin[places]), self.longest[places])
        return excerpts


def lengths(todo: pa.Table, settings: Settings, past: KnownSizes) -> Lengths:
    """Say how long the tracks are.

    Args:
        todo: The tracks that are left to do.
        settings: Settings of the run.
        past: Durations and sizes that OUT's journal knows.
    """
    most = _numbers(todo.column("duration_s"), math.inf if settings.duration_s is None else settings.duration_s)
    begin = _numbers(todo.column("offset_s"), settings.offset_s)
    asked = _Asked(todo.column("uri"), _further(todo, (SIZE,)), begin, np.minimum(most, audio.MAX_S))
    whole = _further(todo, LENGTHS) if past.seconds is None else _first(past.seconds, _further(todo, LENGTHS))
    whole[np.isnan(whole) & np.isfinite(most)] = math.inf
    heard, unheard = np.flatnonzero(~np.isnan(whole)), np.flatnonzero(np.isnan(whole))
    known = asked.excerpt(whole[heard], heard)
    return _with_headers(known, asked, unheard, past) if len(unheard) else Lengths(known, np.empty(0))


def _with_headers(known: np.ndarray, asked: _Asked, unheard: np.ndarray, past: KnownSizes) -> Lengths:
    """Read some of the headers, and estimate the rest by them."""
    some = unheard[:: math.ceil(len(unheard) / HEADERS)]
    uris_of = [asked.uris[int(place)].as_py() for place in some]
    headers = _headers(uris_of, asked.sizes[some])
    answers = [(place, uri, *answer) for place, uri, answer in zip(some, uris_of, headers, strict=True) if answer]
    answered = np.array([place for place, *_ in answers], np.int64)
    heard = asked.excerpt(np.array([seconds for *_, seconds, _ in answers]), answered)
    rates = {**BYTES_S, **_rates((_kind(uri), (seconds, size)) for _, uri, seconds, size in answers), **past.source_bytes_s}
    left = np.setdiff1d(unheard, answered, assume_unique=True)
    sized = left[~np.isnan(asked.sizes[left])]
    by_size = asked.excerpt(asked.sizes[sized] / _of_kinds(asked.uris, rates)[sized], sized) if len(sized) else np.empty(0)
    others, rest = heard if len(heard) else np.concatenate([known, by_size]), len(left) - len(sized)
    if rest and not len(others):
        return Lengths(known, by_size, rest)
    return Lengths(np.concatenate([known, heard]), np.concatenate([by_size, np.full(rest, others.mean() if rest else 0.0)]))


def _rates(answers: Iterable[tuple[str, tuple[float, float]]]) -> dict[str, float]:
    """Return bytes a second by kind of file, of headers' seconds and bytes."""
    sums: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for kind, answer in answers:
        sums[kind].append(answer)
    return {kind: sum(size for _, size in pairs) / sum(seconds for seconds, _ in pairs) for kind, pairs in sums.items()}


def _kind(uri: str) -> str:
    return uris.name(uri).rpartition(".")[2].lower()


def _of_kinds(file_kinds: pa.ChunkedArray, rates: Mapping[str, float]) -> np.ndarray:
    """Return bytes a second of each URI's kind of file."""
    kinds = pc.utf8_lower(pc.replace_substring_regex(file_kinds, "^.*[./]", "")).dictionary_encode()
    ours = ([rates.get(kind, OTHER_BYTES_S) for kind in block.dictionary.to_pylist()] for block in kinds.chunks)
    return np.concatenate([np.array(of)[block.indices] for of, block in zip(ours, kinds.chunks, strict=True)])


def _headers(asked: Sequence[str], sizes: np.ndarray) -> list[tuple[float, float] | None]:
    """Return seconds and bytes of each file, None of those that gave no answer in time."""
    pool = ThreadPoolExecutor(HEADERS_AT_ONCE)
    begun = [pool.submit(_header, uri, size) for uri, size in zip(asked, sizes.tolist(), strict=True)]
    wait(begun, timeout=HEADERS_S)
    pool.shutdown(wait=False, cancel_futures=True)
    return [one.result() if one.done() and not one.cancelled() else None for one in begun]


def _header(uri: str, known_size: float) -> tuple[float, float] | None:
    try:
        size = int(storage.info(uri).bytes if math.isnan(known_size) else known_size)
        with storage.open_ranges(uri, size, HEAD_BYTES) as source:
            seconds = audio.probe(source, silent_s=HEADERS_S).seconds
    except Exception:  # noqa: BLE001 (whatever it is, the run will say it of its track)
        return None
    return (min(seconds, audio.MAX_S), size) if seconds else None


def _further(todo: pa.Table, names: Iterable[str]) -> np.ndarray:
    """Return the first of these further columns that holds numbers, NaN for what is no length; nothing but NaN without one."""
    further = todo.schema.field(EXTRA).type if EXTRA in todo.column_names else ()
    numbers = {field.name for field in further if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}
    name = next((name for name in names if name in numbers), "")
    values = _numbers(pc.struct_field(todo.column(EXTRA), name), math.nan) if name else np.full(todo.num_rows, np.nan)
    return np.where((values > 0) & (values < math.inf), values, np.nan)


def _first(preferred: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(preferred), other, preferred)


def _numbers(column: pa.ChunkedArray, otherwise: float) -> np.ndarray:
    """Return a column as float64, a number of one's own where it says none."""
    numbers: np.ndarray = column.cast(pa.float64(), safe=False).fill_null(otherwise).to_numpy()
    return numbers
