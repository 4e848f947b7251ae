"""The tracks of an OUT that have references: matched by id, else by the URI, offset and duration of the mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from sep_batch.jobs.evaluate.references import Song
from sep_batch.jobs.setup import outs
from sep_batch.pipeline import errors
from sep_batch.pipeline.out import database
from sep_batch.pipeline.scoring import stem_file
from sep_batch.pipeline.scoring.stem_file import StemFile
from sep_batch.pipeline.scoring.track import Track, failed
from sep_batch.pipeline.storage.retries import listing

_TRACKS = """SELECT id, uri, offset_s, duration_s, status, error_class, error FROM newest
    WHERE id IN (SELECT id FROM songs) OR uri IN (SELECT uri FROM songs)"""
_STEMS = f"SELECT * FROM ({stem_file.SQL}) WHERE id IN (SELECT id FROM ({_TRACKS}))"  # noqa: S608 (no user input)


@dataclass
class Matched:
    """Songs as tracks of an OUT.

    Attributes:
        tracks: Tracks to score.
        failed: Rows of songs that cannot be scored.
        stems: Stems that OUT has of these songs.
        unreferenced: Number of tracks whose stem has no reference, by stem.
    """

    tracks: list[Track] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    stems: set[str] = field(default_factory=set)
    unreferenced: dict[str, int] = field(default_factory=dict)


def match(songs: Sequence[Song], out: str) -> Matched:
    """Find the stems of songs in an OUT."""
    rows, stems = _rows(songs, out)
    settings, matched = outs.last_run(out)["settings"], Matched()
    by_id = {row["id"]: row for row in rows}
    by_source = {(row["uri"], row["offset_s"], row["duration_s"]): row for row in rows}
    for song in songs:
        row = by_id.get(song.id) or by_source.get((song.uri, song.offset_s, song.duration_s))
        if problem := song.problem or _problem(row):
            matched.failed.append(failed(song.id, song.uri, problem))
        elif row is not None:
            matched.stems |= stems[row["id"]].keys()
            _add(matched, song, row, stems[row["id"]], settings)
    return matched


@listing
def _rows(songs: Sequence[Song], out: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, StemFile]]]:
    """Return OUT's rows of these songs, and the stems of each track, by id and name."""
    with database.opened(out) as journal:
        sources = {"id": [song.id for song in songs], "uri": [song.uri for song in songs]}
        journal.database.register("songs", pa.table(sources))
        rows = _fetch(journal.database, _TRACKS)
        stems: dict[str, dict[str, StemFile]] = {row["id"]: {} for row in rows}
        for stem in _fetch(journal.database, _STEMS):
            stems[stem["id"]][stem["stem"]] = StemFile.of(out, stem)
    return rows, stems


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    result = connection.execute(sql)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _problem(row: Mapping[str, Any] | None) -> errors.TrackError | None:
    """Return the reason why a row of OUT has no stems; None if it has."""
    if row is None:
        return errors.NotFound("OUT has no track with this id or URI")
    if row["status"] == "ok":
        return None
    problem = errors.TrackError(f"not separated: {row['error'] or row['status']}")
    problem.error_class = row["error_class"] or row["status"]
    return problem


def _add(
    matched: Matched, song: Song, row: Mapping[str, Any], stems: Mapping[str, StemFile], settings: Mapping[str, Any]
) -> None:
    """Add a song's track with the stems that have references, or its failed row."""
    made = {stem: song.references.recipe(stem) for stem in stems}
    recipes = {stem: recipe for stem, recipe in made.items() if recipe}
    if not recipes:
        has = ", ".join(song.references.stems)
        problem = errors.NotFound(f"no usable reference: there are {has}, and OUT has {', '.join(stems)}")
        matched.failed.append(failed(song.id, song.uri, problem))
        return
    for stem in stems.keys() - recipes.keys():
        matched.unreferenced[stem] = matched.unreferenced.get(stem, 0) + 1
    offset_s, duration_s = (settings.get(name) if row[name] is None else row[name] for name in ("offset_s", "duration_s"))
    files = {stem: stems[stem] for stem in recipes}
    matched.tracks.append(Track(song.id, song.uri, files, recipes, offset_s or 0.0, duration_s))
