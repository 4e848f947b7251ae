"""The manifest: read, check, give ids."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline import failures, storage, uris
from sep_batch.pipeline.manifest import parse, source_policy, table_folder
from sep_batch.pipeline.manifest.audio_files import AUDIO_EXTENSIONS, MANIFEST_EXTENSIONS, AudioFiles, extension
from sep_batch.pipeline.manifest.ids import identify
from sep_batch.pipeline.manifest.patterns import Patterns
from sep_batch.pipeline.manifest.source_policy import Fence
from sep_batch.pipeline.rows import EXTRA, JOURNAL, TRACK
from sep_batch.pipeline.storage import Info

URI_SPELLINGS = ("uri", "url", "path", "audio_filepath", "file_name")
SHOWN = 20


@dataclass(frozen=True)
class Manifest:
    """A checked manifest.

    Attributes:
        uri: Where it was read from.
        sha256: Of what was read.
        tracks: TRACK's columns, and `extra` where it has further ones; one row a track, ids given.
        warnings: What a person should know, a line each.
        read_with: What `read` was told, so that it can be read again.
        is_folder: Whether it is the listing of the audio in a folder or prefix.
    """

    uri: str
    sha256: str
    tracks: pa.Table
    warnings: tuple[str, ...] = ()
    read_with: Mapping[str, str | bool | list[str] | None] = dataclasses.field(default_factory=dict)
    is_folder: bool = False


def read(
    uri: str,
    *,
    uri_column: str | None = None,
    id_column: str | None = None,
    input_root: str | None = None,
    allow_http: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Manifest:
    """Read a manifest; a folder or an audio file stands for a manifest of what it holds.

    Args:
        uri: Parquet, CSV or JSONL by its extension; a folder or prefix of audio, or without audio, of such files; an audio file.
        uri_column: The column of URIs, where it is none of `URI_SPELLINGS`.
        id_column: The column of ids, where it is not `id`.
        input_root: The folder that local sources have to lie below, links followed. Without it a manifest of this machine may
            name any, one from elsewhere none.
        allow_http: Whether the manifest, and its sources, may be http or https.
        include: Patterns of a folder's files, of which a listed one matches at least one; by default its extension decides.
        exclude: Patterns of a folder's files, of which a listed one matches none.

    Raises:
        ManifestError: It is not there, not readable, not clear about its tracks, or has none.
        UsageError: The root is no folder of this machine, or a pattern is none, or is given with what is no folder.
    """
    around = Fence.around(input_root, allow_http=allow_http)
    told = {"uri_column": uri_column, "id_column": id_column, "input_root": input_root, "allow_http": allow_http}
    patterns = Patterns(include, exclude)
    try:
        uris.check(uri, allow_http=allow_http)
        listed = _read(uris.absolute(uri), (uri_column, id_column), around, patterns)
    except failures.TrackError as error:
        raise failures.ManifestError(f"manifest {error}") from error
    if not listed.tracks.num_rows:
        raise failures.ManifestError(f"manifest {uris.shown(listed.uri)}: holds no rows; expected one a track")
    return dataclasses.replace(listed, read_with=told | {"include": list(include), "exclude": list(exclude)})


def _read(uri: str, columns: tuple[str | None, str | None], around: Fence, patterns: Patterns) -> Manifest:
    kind = extension(uri)
    if kind in MANIFEST_EXTENSIONS:
        try:
            table, sha256 = _parsed(uri, kind, columns)
        except failures.NotFound:
            if not storage.is_folder(uri):
                raise
        else:
            patterns.refuse(f"{uris.shown(uri)} is a manifest, which names its tracks itself")
            return check(table, uri, uris.parent(uri), *columns, sha256=sha256, around=around)
    elif kind in AUDIO_EXTENSIONS and storage.exists(uri):
        patterns.refuse(f"{uris.shown(uri)} is one audio file")
        return check(_listed([storage.info(uri)], uris.parent(uri)), uri, uris.parent(uri), around=around)
    if storage.is_folder(uri):
        return _read_folder(uri, columns, around, patterns)
    if not storage.exists(uri):
        raise failures.ManifestError(f"manifest {uris.shown(uri)}: not found{_of_pattern(uri)}")
    raise failures.ManifestError(
        f"manifest {uris.shown(uri)}: neither a manifest ({' '.join(MANIFEST_EXTENSIONS)}), a folder, nor an audio file by its "
        f"extension; where it is audio, name its folder with --include {shlex.quote(uris.printable(uris.name(uri)))}"
    )


def _of_pattern(uri: str) -> str:
    """Return what to do where a pattern was given that no shell has expanded."""
    if not (wild := re.search(r"[^/]*[*?\[].*", uri)):
        return ""
    return f"; for a pattern: {uris.shown(uri[: wild.start()])} --include {shlex.quote(uris.printable(wild[0]))}"


def _read_folder(uri: str, columns: tuple[str | None, str | None], around: Fence, patterns: Patterns) -> Manifest:
    """Read a folder's audio, or where it has none, its manifest files as one."""
    files = AudioFiles(uri, patterns, with_manifests=True)
    table = _listed(files.below(), uri)
    if table.num_rows:
        listed = check(table, uri, uri, around=around)
        warnings = (*listed.warnings, *files.warnings(), *patterns.unmatched())
        return dataclasses.replace(listed, warnings=warnings, is_folder=True)
    if not files.manifests:
        raise failures.ManifestError(files.nothing())
    patterns.refuse(f"{uris.shown(uri)} holds no audio that they choose but manifest files, which name their tracks themselves")
    if files.table:
        raise failures.ManifestError(
            f"manifest {uris.shown(uri)}: {files.table}, whose log says which of its files count; "
            "expected plain files: have what wrote it export the table as Parquet"
        )
    found = table_folder.read(uri, files.manifests, _text_columns(columns))
    base = table_folder.base_of(uri, MANIFEST_EXTENSIONS)
    try:
        listed = check(found.table, uri, base, *columns, sha256=found.sha256, around=around)
    except failures.ManifestError as error:
        places = found.places(str(error))
        raise failures.ManifestError(f"{error}{'; ' * bool(places)}{places}") from error
    return dataclasses.replace(listed, warnings=(*listed.warnings, *files.warnings_of_manifests()))


def _text_columns(columns: tuple[str | None, str | None]) -> list[str]:
    return [name for name in (*URI_SPELLINGS, "id", "source_etag", *columns) if name]


def _parsed(uri: str, kind: str, columns: tuple[str | None, str | None]) -> tuple[pa.Table, str]:
    """Return a manifest's table and the sha256 of its bytes, which are not held any longer."""
    content = storage.read(uri)
    try:
        table = parse.parse(kind, content, _text_columns(columns))
    except parse.UnreadableError as error:
        raise failures.ManifestError(f"manifest {uris.shown(uri)}: {error}") from error
    return table, hashlib.sha256(content).hexdigest()


def _listed(found: Iterable[Info], folder: str) -> pa.Table:
    """Return a manifest of files: their URIs relative to a folder, and their etags, so that what has changed is done again."""
    rows = [{"uri": one.uri[len(folder) :].lstrip("/"), "source_etag": one.etag} for one in found]
    return pa.Table.from_pylist(rows, schema=pa.schema([("uri", pa.string()), ("source_etag", pa.string())]))


def check(
    table: pa.Table,
    uri: str,
    folder: str,
    uri_column: str | None = None,
    id_column: str | None = None,
    *,
    sha256: str = "",
    around: Fence = source_policy.OPEN,
) -> Manifest:
    """Check a manifest's table and give its tracks their ids.

    Args:
        table: As it was read.
        uri: For messages.
        folder: What its relative URIs are relative to.
        uri_column: The column of URIs, where it is none of `URI_SPELLINGS`.
        id_column: The column of ids, where it is not `id`.
        sha256: Of the manifest's bytes; where it has none, it is taken over its URIs.
        around: What its sources have to keep to.

    Raises:
        ManifestError: With the count of faulty rows and the first 20.
    """
    said = f"manifest {uris.shown(uri)}"
    names = table.column_names
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise failures.ManifestError(f"{said}: found more than one column {_told(doubled)}")
    wanted = (uri_column,) if uri_column else URI_SPELLINGS
    source = next((name for name in wanted if name in names), None)
    if source is None:
        raise failures.ManifestError(f"{said}: no uri column; found {_told(names) or 'none'}, expected {' or '.join(wanted)}")
    if id_column and id_column not in names:
        raise failures.ManifestError(f"{said}: no column {id_column}; found {_told(names)}")
    identity = id_column or "id"
    given = pa.table(
        {
            "uri": _column(table, source, pa.string(), said),
            "offset_s": _number(_column(table, "offset_s", pa.float64(), said)),
            "duration_s": _number(_column(table, "duration_s", pa.float64(), said)),
            "id": _column(table, identity, pa.string(), said),
        }
    )
    etags = _column(table, "source_etag", pa.string(), said)
    named = identify(given, lambda uri: around.resolve(uri, folder))
    if faulty := sorted(named.problems):
        shown = "; ".join(f"row {place + 1}: {named.problems[place]}" for place in faulty[:SHOWN])
        raise failures.ManifestError(f"{said}: {len(faulty)} faulty rows: {shown}{'; ...' * (len(faulty) > SHOWN)}")
    attempts = pa.array(np.zeros(table.num_rows, np.int32))
    tracks = pa.table([named.ids, named.uris, given["offset_s"], given["duration_s"], etags, attempts], TRACK)
    extra, told = _extra(table, {source, identity, "offset_s", "duration_s", "source_etag"})
    if extra is not None:
        tracks = tracks.append_column(EXTRA, extra)
    warnings = []
    if repeated := int(named.is_repeat.sum()):
        warnings = [f"{repeated} rows repeat another (same uri, offset and duration): one track each"]
        tracks = tracks.filter(pa.array(~named.is_repeat))
    return Manifest(uri, sha256 or _sha256(given["uri"]), tracks, (*warnings, *told))


def _sha256(sources: pa.ChunkedArray) -> str:
    digest = hashlib.sha256()
    for number, block in enumerate(sources.chunks):
        digest.update(b"\n" * (number > 0) + "\n".join(map(str, block.to_pylist())).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _told(names: Sequence[str]) -> str:
    return ", ".join(uris.printable(name, 60) for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _column(table: pa.Table, name: str, kind: pa.DataType, said: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, kind)])
    try:
        return table.column(name).cast(kind)
    except pa.ArrowException as error:
        found, reason = uris.printable(str(table.schema.field(name).type)), parse.reason(error)
        raise failures.ManifestError(
            f"{said}: column {uris.printable(name)}: found {found}, expected {kind} ({reason})"
        ) from error


def _number(found: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_nan(found), None, found)


def _extra(table: pa.Table, known: set[str]) -> tuple[pa.StructArray | None, list[str]]:
    """Return the manifest's further columns as one struct, and what a person should know of them."""
    taken = {name.lower() for name in JOURNAL.names} | {
        "file_row_number",
        "file_index",
        "_sep_file",
        "_sep_place",
    }  # DuckDB's, in index.py
    found: dict[str, pa.Array] = {}
    told = []
    for name in table.column_names:
        if name in known:
            continue
        shown = uris.printable(name, 60)
        column = parse.carry(table.column(name)) if shown == name else None
        if column is None:
            told.append(
                f"column {shown} is left out: the index cannot hold {_kind(table, name) if shown == name else 'its name'}"
            )
            continue
        new = name
        while not new or new.lower() in taken:
            new = f"manifest_{new}"
        taken.add(new.lower())
        found[new] = column
        if new != name:
            told.append(f"column {name} is carried as {new}: {'the index has one of that name' if name else 'it has no name'}")
    return pa.StructArray.from_arrays(list(found.values()), names=list(found)) if found else None, told


def _kind(table: pa.Table, name: str) -> str:
    return uris.printable(str(table.schema.field(name).type))
