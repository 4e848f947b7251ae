"""Invalid rows of a manifest: the manifest is refused, or the rows become tracks that fail."""

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
    """A manifest that is refused because of some of its rows."""


def refusal(subject: str, problems: dict[int, str]) -> BadRowsError:
    """Return the error of a manifest with bad rows: their count, and the first 20."""
    first = "; ".join(f"row {row + 1}: {problems[row]}" for row in sorted(problems)[:SHOWN])
    more = "; ..." * (len(problems) > SHOWN)
    return BadRowsError(f"{subject}: {len(problems):,} bad row{'s' * (len(problems) > 1)}: {first}{more}")


def as_tracks(
    named: Identities, table: pa.Table, source_columns: Sequence[str], ids: pa.ChunkedArray, resolve: Callable[[str], str]
) -> tuple[Identities, pa.Array]:
    """Give each bad row an id of its own, and a URI that may be shown.

    Args:
        named: All rows, with their problems.
        table: The manifest.
        source_columns: Its columns of URI, offset, duration and id; the first is the URI's.
        ids: The ids that the manifest gives.
        resolve: Makes a URI absolute; raises BadUri.

    Returns:
        The rows with ids and URIs; and the problem of each, null for sound rows.
    """
    numbers = sorted(named.problems)
    taken = pa.array(numbers, pa.int64())
    rows = table.take(taken).to_pylist()
    manifest_ids = ids.take(taken).to_pylist()
    is_bad = np.zeros(table.num_rows, np.bool_)
    is_bad[numbers] = True
    sound = named.ids.filter(pa.array(~is_bad))
    new_ids = _ids(manifest_ids, [_content(row, source_columns) for row in rows], sound)
    shown = [_shown(row[source_columns[0]], resolve) for row in rows]
    problems = [f"row {number + 1}: {named.problems[number]}" for number in numbers]
    mask = pa.array(is_bad)
    return (
        replace(named, ids=_replaced(named.ids, mask, new_ids), uris=_replaced(named.uris, mask, shown)),
        _replaced(pa.chunked_array([pa.nulls(table.num_rows, pa.string())]), mask, problems).combine_chunks(),
    )


def _replaced(column: pa.ChunkedArray, mask: pa.Array, values: list[str]) -> pa.ChunkedArray:
    return pc.replace_with_mask(column, mask, pa.array(values, pa.string()))


def _content(row: dict[str, Any], source_columns: Sequence[str]) -> str:
    """Return a text that identifies a row: its columns of the source, or all of its columns if it has no URI."""
    is_named = isinstance(uri := row[source_columns[0]], str) and uri.strip()
    return json.dumps({name: row[name] for name in source_columns} if is_named else row, default=str, sort_keys=True)


def _ids(manifest_ids: list[str | None], contents: list[str], sound: pa.ChunkedArray) -> list[str]:
    """Return an id for each bad row: its own if that is valid and no other row has it, or one made of its content.

    The same manifest gives the same ids again; the ids of rows with the same content differ by their order.
    """
    counts = Counter((id or "").lower() for id in manifest_ids)
    kept = [id if id and is_id(id) and counts[id.lower()] == 1 else None for id in manifest_ids]
    others = set(_taken(sound, [id.lower() for id in kept if id]))
    kept = [id if id and id.lower() not in others else None for id in kept]
    names, occurrences = [id or "" for id in kept], Counter[str]()
    used = {id.lower() for id in kept if id}
    left = [index for index, id in enumerate(kept) if id is None]
    while left:
        for index in left:
            occurrences[contents[index]] += 1
            names[index] = _made(contents[index], occurrences[contents[index]])
        used_elsewhere = used | set(_taken(sound, [names[index] for index in left]))
        left = [index for index in left if names[index] in used_elsewhere]
    return names


def _taken(sound: pa.ChunkedArray, ids: list[str]) -> list[str]:
    """Return those of some ids, in lower case, that sound rows have too."""
    lower = pc.utf8_lower(sound)
    return [str(id) for id in lower.filter(pc.is_in(lower, pa.array(ids, pa.string()))).to_pylist()]


def _made(content: str, occurrence: int) -> str:
    digest = hashlib.sha256(f"{content}\n{occurrence}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"bad_row-{digest[:16]}"


def _shown(uri: Any, resolve: Callable[[str], str]) -> str:
    """Return a bad row's URI for the index: absolute, or as it is given, without possible secrets."""
    text = "" if uri is None else str(uri)
    try:
        return resolve(text) if text.strip() else ""
    except errors.BadUri:
        return uris.shown(text)
