"""The formats of manifests, by extension; and reading of a file as a table with a column of URIs.

A row that its format makes unusable (a Lhotse recording of two files, a Windows path in a playlist) is named in `problems`.
"""

from __future__ import annotations

from collections.abc import Collection

from sep_batch.pipeline.manifest import gzipped, lhotse, parse, playlists
from sep_batch.pipeline.manifest.parse import Parsed
from sep_batch.pipeline.storage import uris

GZIP = ".gz"
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
_LINES = (".txt", ".m3u", ".m3u8")
MANIFEST_EXTENSIONS = (".parquet", ".pq", *_TABLES, *_LINES)
EXPECTED = f"{' '.join(MANIFEST_EXTENSIONS)}; all but Parquet also with {GZIP}"
WRITTEN_EXTENSIONS = (".parquet", ".pq", ".csv", ".jsonl", ".ndjson")


def extension_of(uri: str) -> str | None:
    """Return the extension of a manifest's name, in lower case, as `.csv` or `.csv.gz`; None if it is no manifest's."""
    name = uris.name(uri).lower()
    plain = name.removesuffix(GZIP)
    last = f".{plain.rpartition('.')[2]}" if "." in plain else ""
    if plain != name:
        return f"{last}{GZIP}" if last in (*_TABLES, *_LINES) else None
    return last if last in MANIFEST_EXTENSIONS else None


def is_table(uri: str) -> bool:
    """Return whether a file is a table by its name: a folder of tables may be one manifest, one of texts or playlists not."""
    return (extension_of(uri) or "").removesuffix(GZIP) in (".parquet", ".pq", *_TABLES)


def stem(uri: str) -> str:
    """Return a URI's name without its extension: `songs` of `songs.csv.gz`."""
    name = uris.name(uri)
    whole = extension_of(uri) or (name[name.rindex(".") :] if "." in name else "")
    return name[: len(name) - len(whole)] or name


def read(extension: str, content: bytes, text_columns: Collection[str], *, has_uri_column: bool = False) -> Parsed:
    """Read a manifest's bytes.

    Args:
        extension: As `extension_of` returns it.
        content: The file.
        text_columns: Columns that are always read as text; a CSV's separator is found by their names.
        has_uri_column: True if the column of URIs was chosen by name: columns of Lhotse are not looked for then.

    Raises:
        UnreadableError: It is not what its extension says.
    """
    plain = extension.removesuffix(GZIP)
    if plain != extension:
        content = gzipped.decompress(content)
    if plain in _LINES:
        return playlists.read_text(content) if plain == ".txt" else playlists.read_m3u(content, is_utf8=plain == ".m3u8")
    table = parse.parse(plain, content, text_columns)
    is_lhotse = not has_uri_column and lhotse.is_lhotse(table)
    return lhotse.tracks(table) if is_lhotse else Parsed(table)
