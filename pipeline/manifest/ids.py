"""Ids and absolute URIs of a manifest's rows, and problems with them.

Only one block of rows at a time is Python objects: ten million of them would take ten times Arrow's memory. Of earlier rows only
hashes of 8 bytes are kept; rows with equal hashes are compared in full.
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
    """Ids and URIs of a manifest's rows, in their order.

    Attributes:
        ids: Ids, given or made.
        uris: Absolute URIs.
        repeats: Number of the row that a row repeats, by row.
        problems: Problems, by row.
    """

    ids: pa.ChunkedArray
    uris: pa.ChunkedArray
    repeats: dict[int, int]
    problems: dict[int, str]


def identify(
    rows: pa.Table,
    resolve: Callable[[str], str],
    known_problems: Mapping[int, str] = MappingProxyType({}),
    names: tuple[str, str] = ("offset_s", "duration_s"),
) -> Identities:
    """Give every row its id, make its URI absolute, and check it.

    Args:
        rows: uri, offset_s, duration_s and id, as the manifest gives them.
        resolve: Makes a URI absolute; raises BadUri.
        known_problems: Problems that are known already, by row.
        names: The manifest's columns of offsets and durations, for messages.
    """
    problems, ids, absolute = dict(known_problems), list[pa.Array](), list[pa.Array]()
    hashes, is_sound, row = np.zeros(rows.num_rows, np.int64), np.ones(rows.num_rows, np.bool_), 0
    for batch in rows.to_batches(max_chunksize=BLOCK_ROWS):
        named, resolved = list[str | None](), list[str | None]()
        columns = [column.to_pylist() for column in batch.columns]
        for uri, offset, duration, id in zip(*columns, strict=True):
            name: str | None = None
            absolute_uri: str | None = None
            problem = problems.get(row) or _problem(uri or "", id, offset, duration, names)
            if not problem:
                try:
                    absolute_uri = resolve(uri)
                except errors.BadUri as error:
                    problem = str(error)
            if problem or absolute_uri is None:
                problems[row], is_sound[row] = problem or "no uri", False
            else:
                name = id or made_id(absolute_uri, offset, duration)
                hashes[row] = hash(name.lower())
            named.append(name)
            resolved.append(absolute_uri)
            row += 1
        ids.append(pa.array(named, pa.string()))
        absolute.append(batch.column("uri") if resolved == columns[0] else pa.array(resolved, pa.string()))
    id_column, uri_column = pa.chunked_array(ids, pa.string()), pa.chunked_array(absolute, pa.string())
    candidates = np.flatnonzero(is_sound)[repeated(hashes[is_sound])]
    repeats = _compare(rows.set_column(0, "uri", uri_column), id_column, candidates, problems)
    return Identities(id_column, uri_column, repeats, problems)


def _compare(rows: pa.Table, ids: pa.ChunkedArray, candidates: np.ndarray, problems: dict[int, str]) -> dict[int, int]:
    """Return the candidates that repeat another row, and add problems for those that only have another's id."""
    repeats = dict[int, int]()
    if not candidates.size:  # Arrow copies a column of several blocks to take none of its values
        return repeats
    kept, folded = dict[str, tuple[int, tuple[object, ...]]](), dict[str, str]()
    sources = zip(*(rows.column(name).take(pa.array(candidates)).to_pylist() for name in _SOURCE), strict=True)
    for row, name, source in zip(candidates.tolist(), ids.take(pa.array(candidates)).to_pylist(), sources, strict=True):
        first, same = kept.get(name, (row, None))
        if same == source:
            repeats[row] = first
        elif same is not None:
            problems[row] = f"id {name} is also the id of row {first + 1}, which has another uri, offset or duration"
        elif folded.setdefault(name.lower(), name) != name:
            problems[row] = f"id {name} differs from {folded[name.lower()]} only in case"
        elif row not in problems:
            kept[name] = row, source
    return repeats


def is_id(text: str) -> bool:
    """Return whether a text may be an id."""
    return bool(_ID.fullmatch(text))


def made_id(uri: str, offset_s: float | None, duration_s: float | None) -> str:
    """Make the id of a row that has none: its file name, and a hash of URI, offset and duration.

    A file has the same id whether it is given by itself, in its folder, a list or a manifest.

    Args:
        uri: Absolute URI.
        offset_s: Offset as the manifest gives it, in seconds.
        duration_s: Duration as the manifest gives it, in seconds.
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
