"""Ids and absolute URIs of a manifest's rows, and what is wrong with them.

Rows are Python's a block at a time: ten million of them would take ten times what Arrow takes. What is remembered of those before
is a hash of 8 bytes; rows of equal hashes are looked at again, in full.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import errors
from sep_batch.pipeline.repeats import repeated
from sep_batch.pipeline.storage import uris

BLOCK_ROWS = 65_536
LONGEST_S = 1e9  # 31 years: an offset or duration beyond it is a mistake

_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,200}")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9._-]")
_SOURCE = ("uri", "offset_s", "duration_s")


@dataclass(frozen=True)
class Identities:
    """What the rows of a manifest are called, in their order.

    Attributes:
        ids: Given or made.
        uris: Absolute.
        repeats: Rows that only repeat another: this other one, by row.
        problems: Problems, by row.
    """

    ids: pa.ChunkedArray
    uris: pa.ChunkedArray
    repeats: dict[int, int]
    problems: dict[int, str]


def identify(
    given: pa.Table,
    resolve: Callable[[str], str],
    known: Mapping[int, str] = MappingProxyType({}),
    names: tuple[str, str] = ("offset_s", "duration_s"),
) -> Identities:
    """Give every row its id, make its URI absolute, and look whether it can be meant.

    Args:
        given: uri, offset_s, duration_s and id, as the manifest gives them.
        resolve: Makes a URI absolute; raises BadUri.
        known: Problems that are known already, by row.
        names: The manifest's columns of offsets and durations, for messages.
    """
    problems, ids, absolute = dict(known), list[pa.Array](), list[pa.Array]()
    hashes, is_sound, place = np.zeros(given.num_rows, np.int64), np.ones(given.num_rows, np.bool_), 0
    for batch in given.to_batches(max_chunksize=BLOCK_ROWS):
        named, resolved = list[str | None](), list[str | None]()
        columns = [column.to_pylist() for column in batch.columns]
        for uri, offset, duration, id in zip(*columns, strict=True):
            name: str | None = None
            absolute_uri: str | None = None
            problem = problems.get(place) or _problem(uri or "", id, offset, duration, names)
            if not problem:
                try:
                    absolute_uri = resolve(uri)
                except errors.BadUri as error:
                    problem = str(error)
            if problem or absolute_uri is None:
                problems[place], is_sound[place] = problem or "no uri", False
            else:
                name = id or made_id(absolute_uri, offset, duration)
                hashes[place] = hash(name.lower())
            named.append(name)
            resolved.append(absolute_uri)
            place += 1
        ids.append(pa.array(named, pa.string()))
        absolute.append(batch.column("uri") if resolved == columns[0] else pa.array(resolved, pa.string()))
    found_ids, found_uris = pa.chunked_array(ids, pa.string()), pa.chunked_array(absolute, pa.string())
    again = np.flatnonzero(is_sound)[repeated(hashes[is_sound])]
    repeats = _compare(given.set_column(0, "uri", found_uris), found_ids, again, problems)
    return Identities(found_ids, found_uris, repeats, problems)


def _compare(given: pa.Table, ids: pa.ChunkedArray, places: np.ndarray, problems: dict[int, str]) -> dict[int, int]:
    """Tell rows that repeat another from those that have another's id, among those whose ids may be alike."""
    repeats = dict[int, int]()
    if not places.size:  # Arrow copies a column of several blocks to take none of its values
        return repeats
    kept, folded = dict[str, tuple[int, tuple[object, ...]]](), dict[str, str]()
    sources = zip(*(given.column(name).take(pa.array(places)).to_pylist() for name in _SOURCE), strict=True)
    for place, name, source in zip(places.tolist(), ids.take(pa.array(places)).to_pylist(), sources, strict=True):
        first, same = kept.get(name, (place, None))
        if same == source:
            repeats[place] = first
        elif same is not None:
            problems[place] = f"id {name} is row {first + 1}'s too, with another uri, offset or duration"
        elif folded.setdefault(name.lower(), name) != name:
            problems[place] = f"id {name} differs from {folded[name.lower()]} only in case"
        elif place not in problems:
            kept[name] = place, source
    return repeats


def is_id(text: str) -> bool:
    """Tell whether a text may be an id."""
    return bool(_ID.fullmatch(text))


def made_id(uri: str, offset_s: float | None, duration_s: float | None) -> str:
    """Make the id of a row that has none: its file name, and a hash of what makes it this track.

    One file has one id however it is named: by itself, in its folder, a list or a manifest.

    Args:
        uri: Absolute.
        offset_s: As the manifest gives it.
        duration_s: As the manifest gives it.
    """
    stem = uris.name(uri).rpartition(".")[0] or uris.name(uri)
    readable = _NOT_IN_ID.sub("_", stem)[:60]
    digest = hashlib.sha256(f"{uri}\n{offset_s}\n{duration_s}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{'_' + readable[1:] if readable.startswith('.') else readable}-{digest[:16]}"


def _problem(uri: str, id: str | None, offset: float | None, duration: float | None, names: tuple[str, str]) -> str | None:
    if not uri.strip():
        return "no uri"
    if id and not is_id(id):
        return f"id {uris.printable(repr(id[:60]))}, expected 1 to 200 of A-Za-z0-9._- and no leading dot"
    if offset is not None and not 0 <= offset <= LONGEST_S:
        return f"{names[0]} {offset}, expected 0 or more, at most {LONGEST_S:g}"
    if duration is not None and not 0 < duration <= LONGEST_S:
        return f"{names[1]} {duration}, expected more than 0, at most {LONGEST_S:g}"
    return None
