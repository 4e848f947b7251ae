"""Reading and checking of a manifest, whose tracks get their ids."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest import formats, parse, segments, source_policy, table_folder
from sep_batch.pipeline.manifest.audio_files import AUDIO_EXTENSIONS, AudioFiles, extension
from sep_batch.pipeline.manifest.bad_rows import BadRows, as_tracks, refusal
from sep_batch.pipeline.manifest.columns import URI_SPELLINGS, choose_columns, extra_columns, listed, source_column, without_views
from sep_batch.pipeline.manifest.ids import identify
from sep_batch.pipeline.manifest.parse import Parsed
from sep_batch.pipeline.manifest.patterns import Patterns
from sep_batch.pipeline.manifest.source_policy import SourcePolicy
from sep_batch.pipeline.rows import EXTRA, PROBLEM, TRACK
from sep_batch.pipeline.storage import Info, uris


@dataclass(frozen=True)
class Manifest:
    """A checked manifest.

    Attributes:
        uri: URI that it was read from.
        sha256: SHA-256 of its bytes; of a listing, of its URIs.
        tracks: One row a track, with its id: TRACK's columns, `extra` if there are further columns, and `problem` if some rows
            are bad and become tracks that fail.
        warnings: Warnings, a line each.
        read_with: Arguments of `read`, so that it can be read again.
        kind: `folder` if it lists the audio of folders or prefixes, also beside audio files; `songs` if it is audio files.
        folders: The folders and prefixes that it lists.
        unread: Folders below them that could not be read.
    """

    uri: str
    sha256: str
    tracks: pa.Table
    warnings: tuple[str, ...] = ()
    read_with: Mapping[str, str | bool | list[str] | None] = dataclasses.field(default_factory=dict)
    kind: Literal["manifest", "folder", "songs"] = "manifest"
    folders: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """URI, of several sources the first's with the number of the others."""
        more = self.read_with.get("more")
        return f"{self.uri} and {len(more)} more" if isinstance(more, list) and more else self.uri


def read(
    uri: str,
    *,
    more: Sequence[str] = (),
    uri_column: str | None = None,
    id_column: str | None = None,
    input_root: str | None = None,
    allow_http: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    bad_rows: BadRows = "refuse",
) -> Manifest:
    """Read a manifest; a folder or an audio file is read as the manifest of its audio.

    Args:
        uri: A list, in the format of its extension (`formats.MANIFEST_EXTENSIONS`); a folder or prefix of audio or, without
            audio, of tables; or an audio file.
        more: Further audio files and folders, if the first is one.
        uri_column: The column of URIs, if it is none of `URI_SPELLINGS`.
        id_column: The column of ids, if it is not `id`.
        input_root: The folder that local sources have to lie below, links followed. Without it, a local manifest may name any
            local source, a remote one none.
        allow_http: Accept http and https for the manifest and its sources.
        include: Patterns of a folder's files: a file is listed if it matches one; by default its extension decides.
        exclude: Patterns of a folder's files: a file is left out if it matches one.
        bad_rows: "refuse" a manifest with invalid rows, or make these rows "fail": tracks with a `problem`.

    Raises:
        ManifestError: It is missing, unreadable, ambiguous about its tracks, or has none.
        UsageError: `input_root` is no local folder, a pattern is invalid, or patterns are given and the source is no folder.
    """
    around = SourcePolicy.around(input_root, allow_http=allow_http)
    read_with: dict[str, str | bool | list[str] | None] = {
        "uri_column": uri_column,
        "id_column": id_column,
        "input_root": input_root,
        "allow_http": allow_http,
        "bad_rows": bad_rows,
        "more": [uris.absolute(source) for source in more],
        "include": list(include),
        "exclude": list(exclude),
    }
    how = _How(uri_column, id_column, around, Patterns(include, exclude), bad_rows)
    try:
        parts = []
        for source in (uri, *more):
            uris.check(source, allow_http=allow_http)
            parts.append(_read(uris.absolute(source), how))
    except errors.TrackError as error:
        raise errors.ManifestError(f"manifest {error}") from error
    listed = _joined(parts) if more else parts[0]
    if not listed.tracks.num_rows:
        raise errors.ManifestError(f"manifest {uris.shown(listed.uri)}: holds no rows; expected one row per track")
    return dataclasses.replace(listed, read_with=read_with)


@dataclass(frozen=True)
class _How:
    """Arguments of `read`, checked."""

    uri_column: str | None
    id_column: str | None
    around: SourcePolicy
    patterns: Patterns
    bad_rows: BadRows

    @property
    def text_columns(self) -> list[str]:
        return [name for name in (*URI_SPELLINGS, "id", "source_etag", self.uri_column, self.id_column) if name]

    def check(self, parsed: Parsed | pa.Table, uri: str, folder: str, sha256: str = "") -> Manifest:
        return check(
            parsed, uri, folder, self.uri_column, self.id_column, sha256=sha256, around=self.around, bad_rows=self.bad_rows
        )

    def check_files(self, table: pa.Table, uri: str, folder: str) -> Manifest:
        return check(table, uri, folder, around=self.around, bad_rows=self.bad_rows)


def _read(uri: str, how: _How) -> Manifest:
    if kind := formats.extension_of(uri):
        try:
            parsed, sha256 = _parsed(uri, kind, how)
        except errors.NotFound:
            if not storage.is_folder(uri):
                raise
        else:
            how.patterns.refuse(f"{uris.shown(uri)} is a manifest, which names its tracks itself")
            return how.check(parsed, uri, uris.parent(uri), sha256)
    elif extension(uri) in AUDIO_EXTENSIONS and storage.exists(uri):
        how.patterns.refuse(f"{uris.shown(uri)} is one audio file")
        listed = how.check_files(_listed([storage.info(uri)], uris.parent(uri)), uri, uris.parent(uri))
        return dataclasses.replace(listed, kind="songs")
    if storage.is_folder(uri):
        return _read_folder(uri, how)
    if not storage.exists(uri):
        raise errors.ManifestError(f"manifest {uris.shown(uri)}: not found{_of_pattern(uri)}")
    raise errors.ManifestError(
        f"manifest {uris.shown(uri)}: neither a manifest ({formats.EXPECTED}), a folder, nor an audio file by its "
        f"extension; if it is audio, name its folder with --include {shlex.quote(uris.printable(uris.name(uri)))}"
    )


def _joined(parts: Sequence[Manifest]) -> Manifest:
    """Return several audio files and folders as one manifest; a file in two of them is there once.

    Raises:
        ManifestError: One of them is a manifest.
    """
    if table := next((part for part in parts if part.kind == "manifest"), None):
        raise errors.ManifestError(
            f"{uris.shown(table.uri)} is a manifest among {len(parts)} sources; expected audio files and folders: run each "
            "manifest by itself, or make one of them all: sep-batch manifest SOURCES -o songs.parquet"
        )
    tracks = pa.concat_tables((part.tracks for part in parts), promote_options="default")
    _, firsts = np.unique(tracks.column("uri").to_numpy(zero_copy_only=False), return_index=True)
    tracks = tracks.take(pa.array(np.sort(firsts)))
    return Manifest(
        parts[0].uri,
        _sha256(tracks.column("uri")),
        tracks,
        tuple(warning for part in parts for warning in part.warnings),
        kind="songs" if all(part.kind == "songs" for part in parts) else "folder",
        folders=tuple(folder for part in parts for folder in part.folders),
        unread=tuple(folder for part in parts for folder in part.unread),
    )


def _of_pattern(uri: str) -> str:
    """Return advice for a pattern that no shell has expanded; empty for another URI."""
    if not (wild := re.search(r"[^/]*[*?\[].*", uri)):
        return ""
    return f"; to list files by a pattern: {uris.shown(uri[: wild.start()])} --include {shlex.quote(uris.printable(wild[0]))}"


def _read_folder(uri: str, how: _How) -> Manifest:
    """Read a folder's audio, or, if it has none, its tables as one manifest."""
    files = AudioFiles(uri, how.patterns, with_manifests=True)
    table = _listed(files.below(), uri)
    if table.num_rows:
        listed = how.check_files(table, uri, uri)
        warnings = (*listed.warnings, *files.warnings(), *how.patterns.unmatched())
        return dataclasses.replace(listed, warnings=warnings, kind="folder", folders=(uri,), unread=tuple(files.unread))
    if not files.manifests:
        raise errors.ManifestError(files.nothing())
    how.patterns.refuse(
        f"{uris.shown(uri)} holds no audio that they choose, only manifest files, which name their tracks themselves"
    )
    if files.table:
        raise errors.ManifestError(
            f"manifest {uris.shown(uri)}: {files.table}, whose log says which of its files count; "
            "expected plain files: export the table as Parquet with the tool that wrote it"
        )
    parsed = table_folder.read(uri, files.manifests, how.text_columns, has_uri_column=how.uri_column is not None)
    try:
        listed = how.check(parsed.parsed, uri, table_folder.base_of(uri), parsed.sha256)
    except errors.ManifestError as error:
        files_of_rows = parsed.files_of_rows(str(error))
        raise type(error)(f"{error}{'; ' * bool(files_of_rows)}{files_of_rows}") from error
    return dataclasses.replace(listed, warnings=(*listed.warnings, *files.warnings_of_manifests()))


def _parsed(uri: str, kind: str, how: _How) -> tuple[Parsed, str]:
    """Return a manifest's table and the sha256 of its bytes, which are not held any longer."""
    content = storage.read(uri)
    try:
        parsed = formats.read(kind, content, how.text_columns, has_uri_column=how.uri_column is not None)
    except parse.UnreadableError as error:
        raise errors.ManifestError(f"manifest {uris.shown(uri)}: {error}") from error
    return parsed, hashlib.sha256(content).hexdigest()


def _listed(infos: Iterable[Info], folder: str) -> pa.Table:
    """Return a manifest of files, with their etags, so that changed files are separated again.

    URIs are relative to the folder on a disk, and whole elsewhere: a key may have empty components.
    """
    below = len(folder) if uris.is_local(folder) else 0
    rows = [{"uri": info.uri[below:].lstrip("/"), "source_etag": info.etag} for info in infos]
    return pa.Table.from_pylist(rows, schema=pa.schema([("uri", pa.string()), ("source_etag", pa.string())]))


def check(
    parsed: Parsed | pa.Table,
    uri: str,
    folder: str,
    uri_column: str | None = None,
    id_column: str | None = None,
    *,
    sha256: str = "",
    around: SourcePolicy = source_policy.OPEN,
    bad_rows: BadRows = "refuse",
) -> Manifest:
    """Check a manifest's table and give its tracks their ids.

    Args:
        parsed: The manifest as it was read.
        uri: Its URI, for messages.
        folder: Base of its relative URIs.
        uri_column: The column of URIs, if it is none of `URI_SPELLINGS`.
        id_column: The column of ids, if it is not `id`.
        sha256: SHA-256 of the manifest's bytes; by default that of its URIs is taken.
        around: Policy for its sources.
        bad_rows: Treatment of bad rows, as `read` takes it.

    Raises:
        BadRowsError: Some rows are invalid; the message has their number and the first 20.
        ManifestError: Its columns are ambiguous about its tracks.
    """
    subject = f"manifest {uris.shown(uri)}"
    parsed = parsed if isinstance(parsed, Parsed) else Parsed(parsed)
    table, resolve = without_views(parsed.table), lambda uri: around.resolve(uri, folder)
    source, identity = choose_columns(table.column_names, uri_column, id_column, subject)
    try:
        parts = segments.of(table, source)
    except TypeError as error:
        raise errors.ManifestError(f"{subject}: {error}") from error
    sources = pa.table(
        {
            "uri": source_column(table, source, pa.string(), subject),
            "offset_s": parts.offsets_s,
            "duration_s": parts.durations_s,
            "id": source_column(table, identity, pa.string(), subject),
        }
    )
    etags = source_column(table, "source_etag", pa.string(), subject)
    named, problems = identify(sources, resolve, {**parts.problems, **parsed.problems}, parts.names), None
    if named.problems and bad_rows == "refuse":
        raise refusal(subject, named.problems)
    if ignored := segments.ignored(sources, table, parts.names):
        raise errors.ManifestError(f"{subject}: {ignored}")
    own = (source, *parts.names, identity)
    if named.problems:
        columns = [name for name in own if name in table.column_names]
        named, problems = as_tracks(named, table, columns, sources["id"], resolve)
    attempts = pa.array(np.zeros(table.num_rows, np.int32))
    tracks = pa.table([named.ids, named.uris, sources["offset_s"], sources["duration_s"], etags, attempts], TRACK)
    further = segments.further(table, {*own, "source_etag"}, parts)
    extra, warnings = extra_columns(further)
    if extra is not None:
        tracks = tracks.append_column(EXTRA, extra)
    if problems is not None:
        tracks = tracks.append_column(PROBLEM, problems)
    if named.repeats:
        warnings = [_repeated(named.repeats, further), *warnings]
        is_first = np.ones(table.num_rows, np.bool_)
        is_first[list(named.repeats)] = False
        tracks = tracks.filter(pa.array(is_first))
    warnings = [*parsed.warnings, *segments.warnings(table, parts), *warnings]
    return Manifest(uri, sha256 or _sha256(sources["uri"]), tracks, tuple(warnings))


def _repeated(repeats: Mapping[int, int], further: pa.Table) -> str:
    """Return a warning about rows that repeat another: how many, and the further columns in which they differ."""
    warning = f"{len(repeats)} rows repeat another (same uri, offset and duration) and are left out"
    repeated, firsts = (further.take(pa.array(list(some), pa.int64())) for some in (repeats, repeats.values()))
    differing = [name for name in further.column_names if not _are_equal(repeated.column(name), firsts.column(name))]
    return f"{warning}; they differ in {listed(differing)}, of which the first row's value is kept" if differing else warning


def _are_equal(some: pa.ChunkedArray, others: pa.ChunkedArray) -> bool:
    return bool(some.equals(others)) or repr(some.to_pylist()) == repr(others.to_pylist())  # to Arrow, NaN equals nothing


def _sha256(sources: pa.ChunkedArray) -> str:
    digest = hashlib.sha256()
    for number, block in enumerate(sources.chunks):
        digest.update(b"\n" * (number > 0) + "\n".join(map(str, block.to_pylist())).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
