"""Rows of a manifest that cannot be meant: refused with all the others, or taken as tracks that fail."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline import errors
from sep_batch.pipeline.manifest.ids import Identities, is_id
from sep_batch.pipeline.storage import uris

BadRows = Literal["refuse", "fail"]
SHOWN = 20


class BadRowsError(errors.ManifestError):
    """A manifest that is refused for some of its rows."""


def refusal(said: str, problems: dict[int, str]) -> BadRowsError:
    """Return the error of a manifest with bad rows: their count, and the first 20."""
    first = "; ".join(f"row {place + 1}: {problems[place]}" for place in sorted(problems)[:SHOWN])
    more = "; ..." * (len(problems) > SHOWN)
    return BadRowsError(f"{said}: {len(problems):,} bad row{'s' * (len(problems) > 1)}: {first}{more}")


def as_tracks(
    named: Identities, table: pa.Table, source_columns: Sequence[str], ids: pa.ChunkedArray, resolve: Callable[[str], str]
) -> tuple[Identities, pa.Array]:
    """Give bad rows what a track needs: an id of its own, and a URI that may be shown.

    Args:
        named: All rows, with their problems.
        table: The manifest.
        source_columns: Its columns of URI, offset, duration and id; the first is the URI's.
        ids: The ids that the manifest gives.
        resolve: Makes a URI absolute; raises BadUri.

    Returns:
        The rows with ids and URIs; and what is wrong with each, null where nothing is.
    """
    places = sorted(named.problems)
    taken = pa.array(places, pa.int64())
    rows = table.take(taken).to_pylist()
    given = ids.take(taken).to_pylist()
    is_bad = np.zeros(table.num_rows, np.bool_)
    is_bad[places] = True
    sound = named.ids.filter(pa.array(~is_bad))
    new_ids = _ids(given, [_content(row, source_columns) for row in rows], sound)
    shown = [_shown(row[source_columns[0]], resolve) for row in rows]
    problems = [f"row {place + 1}: {named.problems[place]}" for place in places]
    mask = pa.array(is_bad)
    return (
        replace(named, ids=_replaced(named.ids, mask, new_ids), uris=_replaced(named.uris, mask, shown)),
        _replaced(pa.chunked_array([pa.nulls(table.num_rows, pa.string())]), mask, problems).combine_chunks(),
    )


def _replaced(column: pa.ChunkedArray, mask: pa.Array, values: list[str]) -> pa.ChunkedArray:
    return pc.replace_with_mask(column, mask, pa.array(values, pa.string()))


def _content(row: dict[str, Any], source_columns: Sequence[str]) -> str:
    """Return what tells a row from others: which track it would be, or all of it where it has no URI."""
    is_named = isinstance(uri := row[source_columns[0]], str) and uri.strip()
    return json.dumps({name: row[name] for name in source_columns} if is_named else row, default=str, sort_keys=True)


def _ids(given: list[str | None], contents: list[str], sound: pa.ChunkedArray) -> list[str]:
    """Return an id for each bad row: its own where it has one that no other row has, or one made of its content.

    The same manifest gives the same ids again; rows of one content are told apart by their order.
    """
    counts = Counter((id or "").lower() for id in given)
    kept = [id if id and is_id(id) and counts[id.lower()] == 1 else None for id in given]
    others = set(_of(sound, [id.lower() for id in kept if id]))
    kept = [id if id and id.lower() not in others else None for id in kept]
    names, seen = [id or "" for id in kept], Counter[str]()
    used = {id.lower() for id in kept if id}
    left = [place for place, id in enumerate(kept) if id is None]
    while left:
        for place in left:
            seen[contents[place]] += 1
            names[place] = _made(contents[place], seen[contents[place]])
        used_elsewhere = used | set(_of(sound, [names[place] for place in left]))
        left = [place for place in left if names[place] in used_elsewhere]
    return names


def _of(sound: pa.ChunkedArray, ids: list[str]) -> list[str]:
    """Return those of some ids, in lower case, that sound rows have."""
    lower = pc.utf8_lower(sound)
    return [str(id) for id in lower.filter(pc.is_in(lower, pa.array(ids, pa.string()))).to_pylist()]


def _made(content: str, occurrence: int) -> str:
    digest = hashlib.sha256(f"{content}\n{occurrence}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"bad_row-{digest[:16]}"


def _shown(uri: Any, resolve: Callable[[str], str]) -> str:
    """Return a bad row's URI for the index: absolute, or as it is given, without what may be a secret."""
    text = "" if uri is None else str(uri)
    try:
        return resolve(text) if text.strip() else ""
    except errors.BadUri:
        return uris.shown(text)
