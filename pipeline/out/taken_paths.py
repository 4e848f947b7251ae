"""Tracks whose stems would overwrite those of other tracks of OUT: marked by the templates of `NAMED`, refused with any other.

OUT may have millions of stem paths: they are compared by hashes of 8 bytes, and in full where these agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import errors, stem_paths
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import ROWS_AT_ONCE, Plan
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.storage import uris

# If the template gives each id paths of its own, only stems written with other settings can lie at them.
_OTHERS = """SELECT track.id, track.uri, unnest(track.stems).uri AS path
    FROM (SELECT * FROM newest ANTI JOIN redone USING (id)) AS track
    WHERE status = 'ok' AND (NOT $are_apart OR settings_sha256 IS DISTINCT FROM $settings)"""
_ALL = "SELECT id, uri, unnest(stems).uri AS path FROM newest WHERE status = 'ok'"
_OWN = "SELECT id, uri, unnest(stems).uri AS path FROM newest SEMI JOIN redone USING (id) WHERE status = 'ok'"


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


def marked(plan: Plan, journal: JournalDatabase, settings: Settings) -> frozenset[str]:
    """Return the ids of the tracks that are about to be separated and need a mark in their stems' paths.

    Of tracks that would share a path, the one whose stems lie there in OUT keeps it, or else the plan's first. A track whose
    stems have a mark in OUT keeps that.

    Args:
        plan: Plan of the tracks that are about to be separated.
        journal: Journal of OUT.
        settings: Settings of the run.

    Raises:
        UsageError: Two tracks share a path although one has a mark.
    """
    if settings.filename not in stem_paths.NAMED or not plan.todo:
        return frozenset()
    later = {id for _, _, (id, _) in stem_paths.repeats(settings.first_stem_path, stem_paths.Tracks(plan.blocks))}
    if not journal.files:
        return _checked(plan, settings, frozenset(later))
    journal.database.register("redone", pa.table({"id": plan.column("id")}))
    before = {id for id, _, path in _rows(journal, _OWN) if stem_paths.mark(id) in path}
    journal.database.unregister("redone")
    owners, ours = dict[str, str](), dict[str, list[tuple[str, str]]]()
    hashes = np.fromiter((hash(path) for _, _, path in _rows(journal, _ALL)), np.int64)
    if hashes.size and (ours := _ours(plan, settings, frozenset(), np.unique(hashes))):
        owners = {path: id for id, _, path in _rows(journal, _ALL) if path in ours}
    tracks = [(id, owners[path]) for path, tracks in ours.items() if path in owners for id, _ in tracks]
    others = {id for id, owner in tracks if id != owner}
    return _checked(plan, settings, frozenset(others | (before | later) - {id for id, owner in tracks if id == owner}))


def _checked(plan: Plan, settings: Settings, marked: frozenset[str]) -> frozenset[str]:
    """Refuse tracks that share a path although one has a mark: marks are short.

    Raises:
        UsageError: There are such tracks; names the first.
    """

    def path_of(id: str, uri: str) -> str:
        return settings.stem_path(id, uri, settings.stems[0], is_marked=id in marked)

    for path, (_, first), (_, uri) in stem_paths.repeats(path_of, stem_paths.Tracks(plan.blocks)) if marked else ():
        raise errors.UsageError(
            f"{uris.shown(first)} and {uris.shown(uri)} both give {uris.printable(path)}; "
            f"use another --out, with a --filename that has {{id}}, as {stem_paths.DEFAULT_FILENAME}"
        )
    return marked


def taken(plan: Plan, journal: JournalDatabase, settings: Settings, marked: frozenset[str]) -> list[Taken]:
    """Return the paths at which another track's stem lies, one for each pair of tracks.

    Args:
        plan: Plan of the tracks that are about to be separated.
        journal: Journal of OUT.
        settings: Settings of the run.
        marked: Ids of the tracks whose paths have a mark.
    """
    if not plan.todo or not journal.files:
        return []
    journal.database.register("redone", pa.table({"id": plan.column("id")}))
    parameters = {"are_apart": stem_paths.keeps_ids_apart(settings.filename), "settings": settings.sha256}
    others = np.fromiter((hash(path) for _, _, path in _rows(journal, _OTHERS, parameters)), np.int64)
    pairs = dict[tuple[str, str], Taken]()
    if others.size and (ours := _ours(plan, settings, marked, np.unique(others))):
        for id, uri, path in _rows(journal, _OTHERS, parameters):
            for _, our_uri in ours.get(path, ()):
                pairs.setdefault((our_uri, id), Taken(our_uri, path, id, uri))
    journal.database.unregister("redone")
    return list(pairs.values())


def _rows(journal: JournalDatabase, query: str, parameters: dict[str, object] | None = None) -> Iterator[tuple[str, str, str]]:
    """Yield id, source and path, in one case and Unicode form, of every stem that a query selects."""
    for batch in journal.database.sql(query, params=parameters or {}).to_arrow_reader(ROWS_AT_ONCE):
        ids, sources, paths = (column.to_pylist() for column in batch.columns)
        yield from zip(ids, sources, map(stem_paths.folded, paths), strict=True)


def _ours(plan: Plan, settings: Settings, marked: frozenset[str], others: np.ndarray) -> dict[str, list[tuple[str, str]]]:
    """Return ids and sources of tracks by stem path, for paths that may be among `others`.

    Args:
        plan: Plan of the tracks that are about to be separated.
        settings: Settings of the run.
        marked: Ids of the tracks whose paths have a mark.
        others: Hashes of other tracks' stem paths, ascending.
    """
    tracks_of_path = dict[str, list[tuple[str, str]]]()
    for block in plan.blocks():
        tracks = list(zip(*(block.column(name).to_pylist() for name in ("id", "uri")), strict=True))
        for stem in settings.written_stems:
            paths = [stem_paths.folded(settings.stem_path(id, uri, stem, is_marked=id in marked)) for id, uri in tracks]
            hashes = np.fromiter(map(hash, paths), np.int64, len(paths))
            for row in np.flatnonzero(others[np.searchsorted(others, hashes).clip(max=len(others) - 1)] == hashes):
                tracks_of_path.setdefault(paths[row], []).append(tracks[row])
    return tracks_of_path
