"""The true stems of songs: columns `ref_<stem>` of a manifest, or a folder in MUSDB's layout."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import formats
from sep_batch.pipeline.manifest.columns import listed as listed_names
from sep_batch.pipeline.manifest.source_policy import SourcePolicy
from sep_batch.pipeline.rows import EXTRA
from sep_batch.pipeline.scoring.references import STEM_MP4, STREAMS, References
from sep_batch.pipeline.storage import uris

PREFIX = "ref_"
MIXTURE = "mixture"
MUSDB_STEMS = ("vocals", "drums", "bass", "other", "accompaniment")
_EXTENSIONS = (".wav", ".flac")
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9._-]")
EXPECTED = "one column ref_<stem> for each true stem, as ref_vocals, with a path or URI in each row"


@dataclass(frozen=True)
class Song:
    """A mix with its true stems.

    Attributes:
        id: Id.
        uri: URI of the mix.
        offset_s: Seconds of the mix that are skipped; None is that of the run.
        duration_s: Seconds of it that are separated; None is that of the run.
        references: Its references; none if there is a problem.
        problem: Reason why they cannot be used.
    """

    id: str
    uri: str
    offset_s: float | None
    duration_s: float | None
    references: References
    problem: errors.TrackError | None = None


def songs_of(listed: manifest.Manifest, policy: SourcePolicy) -> list[Song]:
    """Return the songs of a manifest.

    Args:
        listed: The manifest.
        policy: Rules for the URIs of references, which are relative to the manifest.

    Raises:
        UsageError: It has no column `ref_<stem>`.
    """
    columns = [name for name in _extra_names(listed.tracks) if name.startswith(PREFIX) and name != PREFIX]
    if not columns:
        names = listed_names(_extra_names(listed.tracks)) or "no columns besides those of tracks"
        raise errors.UsageError(f"REFERENCES {uris.shown(listed.uri)}: no column ref_<stem>; found {names}, expected {EXPECTED}")
    rows = (row for batch in listed.tracks.to_batches() for row in batch.to_pylist())
    return [_song(row, columns, policy, uris.parent(listed.uri)) for row in rows]


def _extra_names(tracks: pa.Table) -> list[str]:
    return [field.name for field in tracks.schema.field(EXTRA).type] if EXTRA in tracks.column_names else []


def _song(row: Mapping[str, Any], columns: list[str], policy: SourcePolicy, folder: str) -> Song:
    texts = {name.removeprefix(PREFIX): row[EXTRA][name] for name in columns}
    texts = {stem: text for stem, text in texts.items() if text not in (None, "")}
    source = row["id"], row["uri"], row["offset_s"], row["duration_s"]
    try:
        stems = {stem: policy.resolve(str(text), folder) for stem, text in texts.items()}
    except errors.BadUri as error:
        return Song(*source, References(row["uri"], {}), errors.BadUri(f"reference {error}"))
    problem = None if stems else errors.NotFound(f"no reference: {', '.join(columns)} are empty")
    return Song(*source, References(row["uri"], stems, len(stems) == len(columns)), problem)


def musdb_table(folder: str) -> tuple[pa.Table, tuple[str, ...]]:
    """Return a manifest of the songs in a folder of MUSDB's layout, and warnings.

    A song is `<song>/mixture.wav` beside `<song>/vocals.wav` and others, or `<song>.stem.mp4`.

    Args:
        folder: The folder, absolute; songs may lie at any depth, as below train/ and test/.

    Raises:
        NotRunnableError: It is missing.
        UsageError: It holds no song.
    """
    if not storage.is_folder(folder):
        problem = f"a file whose extension is none of {formats.EXPECTED}" if storage.exists(folder) else "not found"
        raise errors.NotRunnableError(f"REFERENCES {uris.shown(folder)}: {problem}; expected a manifest or a folder")
    songs = dict(_songs_below(folder))
    if not any(MIXTURE in files and len(files) > 1 for files in songs.values()):
        layout = f"<song>/{MIXTURE}.wav with {', '.join(f'{stem}.wav' for stem in MUSDB_STEMS[:4])}, or <song>{STEM_MP4}"
        raise errors.UsageError(
            f"REFERENCES {uris.shown(folder)}: no song in MUSDB's layout; expected {layout}, or a manifest with ref_ columns"
        )
    mixless = [song for song, files in songs.items() if MIXTURE not in files]
    songs = {song: files for song, files in songs.items() if song not in mixless}
    columns: dict[str, list[str | None]] = {"id": [*_ids(list(songs))], "uri": [files[MIXTURE] for files in songs.values()]}
    for stem in MUSDB_STEMS:
        if any(stem in files for files in songs.values()):
            columns[f"{PREFIX}{stem}"] = [files.get(stem) for files in songs.values()]
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    if not mixless:
        return table, ()
    return table, (f"folders with stems and no {MIXTURE} are left out: {len(mixless)}; the first is {uris.shown(mixless[0])}",)


def _songs_below(folder: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each folder of audio with its files, by their names without extension; and each file of all stems."""
    songs = defaultdict[str, dict[str, str]](dict)
    for info in storage.find(folder):
        parent, _, name = info.uri.rpartition("/")
        if name.lower().endswith(STEM_MP4):
            songs[info.uri[: -len(STEM_MP4)]] = dict.fromkeys(STREAMS, info.uri)
        stem, dot, extension = name.rpartition(".")
        if f"{dot}{extension}".lower() in _EXTENSIONS and stem in (MIXTURE, *MUSDB_STEMS):
            songs[parent][stem] = info.uri
    yield from sorted(songs.items())


def _ids(folders: list[str]) -> list[str]:
    """Return an id for each song: the name of its folder; if two have the same, that of the folder above too."""
    names = [_id(folder, 1) for folder in folders]
    lower = [name.lower() for name in names]
    return [name if lower.count(name.lower()) == 1 else _id(folder, 2) for name, folder in zip(names, folders, strict=True)]


def _id(folder: str, parts: int) -> str:
    return _NOT_IN_ID.sub("_", "-".join(folder.split("/")[-parts:])).lstrip(".")[:200]
