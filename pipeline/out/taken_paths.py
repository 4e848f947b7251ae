"""Tracks whose stems would overwrite those of other tracks of OUT that this run does not separate.

OUT may have millions of stem paths: they are compared by hashes of 8 bytes, and in full where these agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import stem_paths
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import ROWS_AT_ONCE, Plan
from sep_batch.pipeline.settings import Settings

# If the template gives each id paths of its own, only stems written with other settings can lie at them.
_OTHERS = """SELECT track.id, track.uri, unnest(track.stems).uri AS path
    FROM (SELECT * FROM newest ANTI JOIN redone USING (id)) AS track
    WHERE status = 'ok' AND (NOT $are_apart OR settings_sha256 IS DISTINCT FROM $settings)"""


@dataclass(frozen=True)
class Taken:
    """A stem path of a track that is about to be separated, at which another track's stem lies.

    Attributes:
        uri: Source of the track.
        path: Path of the stem, relative to OUT.
        other_id: Id of the other track.
        other_uri: Source of the other track.
    """

    uri: str
    path: str
    other_id: str
    other_uri: str


def taken(plan: Plan, journal: JournalDatabase, settings: Settings) -> list[Taken]:
    """Return the paths at which another track's stem lies, one for each pair of tracks.

    Args:
        plan: Plan of the tracks that are about to be separated.
        journal: Journal of OUT.
        settings: Settings of the run.
    """
    if not plan.todo or not journal.files:
        return []
    journal.database.register("redone", pa.table({"id": plan.column("id")}))
    others = np.fromiter((hash(path) for _, _, path in _others(journal, settings)), np.int64)
    pairs = dict[tuple[str, str], Taken]()
    if others.size and (ours := _ours(plan, settings, np.unique(others))):
        for id, uri, path in _others(journal, settings):
            if path in ours:
                pairs.setdefault((ours[path], id), Taken(ours[path], path, id, uri))
    journal.database.unregister("redone")
    return list(pairs.values())


def _others(journal: JournalDatabase, settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Yield id, source and path of every stem of OUT that this run might overwrite."""
    parameters = {"are_apart": stem_paths.keeps_ids_apart(settings.filename), "settings": settings.sha256}
    for batch in journal.database.sql(_OTHERS, params=parameters).to_arrow_reader(ROWS_AT_ONCE):
        ids, sources, paths = (column.to_pylist() for column in batch.columns)
        yield from zip(ids, sources, map(stem_paths.folded, paths), strict=True)


def _ours(plan: Plan, settings: Settings, others: np.ndarray) -> dict[str, str]:
    """Return the sources of tracks by stem path, for paths that may be among `others`.

    Args:
        plan: Plan of the tracks that are about to be separated.
        settings: Settings of the run.
        others: Hashes of other tracks' stem paths, ascending.
    """
    source_of_path = dict[str, str]()
    for block in plan.blocks():
        ids, sources = (block.column(name).to_pylist() for name in ("id", "uri"))
        for stem in settings.stems:
            tracks = zip(ids, sources, strict=True)
            rendered = (stem_paths.render(settings.filename, id, uri, stem, settings.format) for id, uri in tracks)
            paths = [stem_paths.folded(f"stems/{path}") for path in rendered]
            hashes = np.fromiter(map(hash, paths), np.int64, len(paths))
            matches = np.flatnonzero(others[np.searchsorted(others, hashes).clip(max=len(others) - 1)] == hashes)
            source_of_path |= {paths[row]: sources[row] for row in matches}
    return source_of_path
