"""How long the tracks of a plan are: what OUT or the manifest knows, and for the rest what a few of their headers say.

A size tells a length only with the bytes a second of such files: OUT's own had them, or the headers that are read say it of this
catalog; failing both, what is usual for the kind of file.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.past import Past
from sep_batch.pipeline import audio, storage, uris
from sep_batch.pipeline.probe import HEAD_BYTES
from sep_batch.pipeline.rows import EXTRA
from sep_batch.pipeline.settings import Settings

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

    known: Sequence[float]
    estimated: Sequence[float] = ()
    unknown: int = 0


@dataclass(frozen=True)
class _Unheard:
    """A track whose length nobody has said: its size, where that is known, and what offset and duration leave of a length."""

    uri: str
    size: float | None
    excerpt: Callable[[float], float]

    @property
    def kind(self) -> str:
        return uris.name(self.uri).rpartition(".")[2].lower()


def lengths(todo: pa.Table, settings: Settings, past: Past) -> Lengths:
    """Say how long the tracks are.

    Args:
        todo: The tracks that are left to do.
        settings: Of the run.
        past: What OUT's journal knows.
    """
    known, unheard = list[float](), list[_Unheard]()
    columns = (*(todo.column(name).to_pylist() for name in ("id", "uri", "offset_s", "duration_s")), _column(todo, LENGTHS))
    for id, uri, offset, duration, length, size in zip(*columns, _column(todo, (SIZE,)), strict=True):
        most = settings.duration_s if duration is None else duration
        excerpt = _excerpt(settings.offset_s if offset is None else offset, most)
        whole = past.seconds.get(id) or length or (None if most is None else math.inf)
        if whole:
            known.append(excerpt(whole))
        else:
            unheard.append(_Unheard(uri, size, excerpt))
    return _with_headers(known, unheard, past) if unheard else Lengths(known)


def _with_headers(known: list[float], unheard: list[_Unheard], past: Past) -> Lengths:
    """Read some of the headers, and estimate the rest by them."""
    step = math.ceil(len(unheard) / HEADERS)
    asked = unheard[::step]
    answers = _headers(asked)
    heard = [track.excerpt(answer[0]) for track, answer in zip(asked, answers, strict=True) if answer]
    left = [track for place, track in enumerate(unheard) if place % step or not answers[place // step]]
    rates = BYTES_S | _rates((track.kind, answer) for track, answer in zip(asked, answers, strict=True) if answer)
    rates |= past.source_bytes_s
    sized = [track.excerpt(track.size / rates.get(track.kind, OTHER_BYTES_S)) for track in left if track.size]
    others, rest = heard or [*known, *sized], len(left) - len(sized)
    if rest and not others:
        return Lengths(known, sized, rest)
    return Lengths([*known, *heard], [*sized, *([sum(others) / len(others)] * rest if rest else [])])


def _rates(answers: Iterable[tuple[str, tuple[float, float]]]) -> dict[str, float]:
    """Return bytes a second by kind of file, of headers' seconds and bytes."""
    sums: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for kind, answer in answers:
        sums[kind].append(answer)
    return {kind: sum(size for _, size in found) / sum(seconds for seconds, _ in found) for kind, found in sums.items()}


def _headers(asked: Sequence[_Unheard]) -> list[tuple[float, float] | None]:
    """Return seconds and bytes of each file, None of those that gave no answer in time."""
    pool = ThreadPoolExecutor(HEADERS_AT_ONCE)
    begun = [pool.submit(_header, track) for track in asked]
    wait(begun, timeout=HEADERS_S)
    pool.shutdown(wait=False, cancel_futures=True)
    return [one.result() if one.done() and not one.cancelled() else None for one in begun]


def _header(track: _Unheard) -> tuple[float, float] | None:
    try:
        size = int(track.size or storage.info(track.uri).bytes)
        with storage.open_ranges(track.uri, size, HEAD_BYTES) as source:
            seconds = audio.probe(source).seconds
    except Exception:  # noqa: BLE001 (whatever it is, the run will say it of its track)
        return None
    return (min(seconds, audio.MAX_S), size) if seconds else None


def _excerpt(begin: float, most: float | None) -> Callable[[float], float]:
    """Return what offset and duration leave of a length; no more than a track may last."""
    longest = audio.MAX_S if most is None else min(most, audio.MAX_S)
    return lambda whole: min(max(0.0, whole - begin), longest)


def _column(todo: pa.Table, names: Iterable[str]) -> Iterator[float | None]:
    """Return the first of these further columns that holds numbers, None for what is no length; nothing but None without one."""
    further = todo.schema.field(EXTRA).type if EXTRA in todo.column_names else ()
    numbers = {field.name for field in further if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}
    name = next((name for name in names if name in numbers), "")
    values = pc.struct_field(todo.column(EXTRA), name).to_pylist() if name else [None] * todo.num_rows
    return (value if value and 0 < value < math.inf else None for value in values)
