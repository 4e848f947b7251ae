"""A folder of Parquet, CSV or JSONL files as one table, as Spark, Ray Data, pandas and DuckDB write them.

The files are read in the order of their names, each as a manifest of its own would be; `key=value` folders are columns (Hive's
partitions). If files differ in the type of a column, it gets a type that holds all values unchanged, or the folder is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest import formats, parse
from sep_batch.pipeline.manifest.parse import Parsed
from sep_batch.pipeline.storage import Info, uris
from sep_batch.pipeline.storage.threads import AHEAD, THREADS, in_threads

IN_FLIGHT_BYTES = 256 << 20  # of files that are fetched ahead of the one that is parsed
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
SHOWN_ROWS = 5
_KINDS = {".pq": ".parquet", ".ndjson": ".jsonl", ".json": ".jsonl"}  # spellings of one kind
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # texts that an int64 reproduces; 007 is not one
_ROW = re.compile(r"\brow (\d+)\b")


@dataclass(frozen=True)
class TableFolder:
    """The rows of a folder's files.

    Attributes:
        parsed: All rows, with their problems.
        sha256: SHA-256 over the files' names and contents, in order.
        rows: The number of rows of each file that has any, by its name within the folder.
    """

    parsed: Parsed
    sha256: str
    rows: Mapping[str, int]

    def files_of_rows(self, message: str) -> str:
        """Return the files of the rows whose numbers a message names; empty if it names none."""
        names = []
        for number in dict.fromkeys(int(row) for row in _ROW.findall(message)):
            first = 1
            for name, count in self.rows.items():
                if first <= number < first + count:
                    names.append(f"row {number} is row {number - first + 1} of {uris.printable(name)}")
                first += count
        return "; ".join(names[:SHOWN_ROWS])


@dataclass(frozen=True)
class _File:
    """One file: its name within the folder, the SHA-256 of its bytes, its table, and problems and warnings about it."""

    name: str
    digest: str
    table: pa.Table
    problems: Mapping[int, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def base_of(folder: str) -> str:
    """Return the base of relative URIs: the folder, or its parent if it is named like a manifest file."""
    return uris.parent(folder) if formats.extension_of(folder) else folder


def read(folder: str, infos: Sequence[Info], text_columns: Collection[str], *, has_uri_column: bool = False) -> TableFolder:
    """Read the files of a folder.

    Args:
        folder: The folder; the files may lie deeper.
        infos: The files, in the order of their names.
        text_columns: Columns that are always read as text.
        has_uri_column: As `formats.read` takes it.

    Raises:
        ManifestError: Kinds or types differ, or a file cannot be read; the message names the files.
        BadUri: A name that no URI may have.
    """
    manifest = f"manifest {uris.shown(folder)}"
    infos, warnings = _without_json(folder, infos)
    kind = _kind(manifest, folder, infos)
    partitions = _partitions(manifest, [_inside(folder, info) for info in infos], text_columns)
    files = list(_parsed(folder, infos, text_columns, has_uri_column=has_uri_column))
    digest = hashlib.sha256("".join(f"{file.digest} {file.name}\n" for file in files).encode()).hexdigest()
    files = [file for file in files if file.table.num_rows] or files[:1]  # an empty file says nothing of its columns' types
    parted = _with_partitions(manifest, files, partitions)
    types, clashes = _common_types(parted, text_columns)
    if clashes and kind in (".csv", ".tsv"):  # as in one file, where one text makes a whole column text
        names = {file.name for file in files}
        chosen = [info for info in infos if _inside(folder, info) in names]
        again = list(_parsed(folder, chosen, [*text_columns, *clashes], has_uri_column=has_uri_column))
        if [file.digest for file in again] != [file.digest for file in files]:
            raise errors.ManifestError(f"{manifest}: its files changed while they were read; run the command again")
        parted = _with_partitions(manifest, again, partitions)
        types, clashes = _common_types(parted, text_columns)
        del again
    for name, (left, right) in clashes.items():
        kinds = " and ".join(f"{file.table.schema.field(name).type} in {file.name}" for file in (parted[left], parted[right]))
        raise errors.ManifestError(
            f"{manifest}: column {uris.printable(name, 60)}: found {uris.printable(kinds, 400)}; expected one type in all files"
        )
    del files
    rows = {file.name: file.table.num_rows for file in parted}
    problems, first = dict[int, str](), 0
    for file in parted:
        problems |= {first + row: problem for row, problem in file.problems.items()}
        warnings += [f"{file.name}: {warning}" for warning in file.warnings]
        first += file.table.num_rows
    return TableFolder(Parsed(_joined(manifest, parted, types), problems, tuple(warnings)), digest, rows)


def _without_json(folder: str, infos: Sequence[Info]) -> tuple[Sequence[Info], list[str]]:
    """Leave .json files out if there are others: Spark and Ray Data write rows in them, many tools something else."""
    others = [info for info in infos if _kind_of(info.uri) != ".json"]
    if not others or len(others) == len(infos):
        return infos, []
    first = next(_inside(folder, info) for info in infos if _kind_of(info.uri) == ".json")
    return others, [
        f"{len(infos) - len(others):,} .json files beside the others are not read, the first: {uris.printable(first)}"
    ]


def _kind_of(uri: str) -> str:
    return (formats.extension_of(uri) or "").removesuffix(formats.GZIP)


def _inside(folder: str, info: Info) -> str:
    return info.uri[len(folder) :].lstrip("/")


def _kind(manifest: str, folder: str, infos: Iterable[Info]) -> str:
    """Return the extension that stands for the kind of all files."""
    first = dict[str, str]()
    for info in infos:
        uris.check(info.uri)
        kind = _kind_of(info.uri)
        first.setdefault(_KINDS.get(kind, kind), _inside(folder, info))
    if len(first) > 1:
        named = ", ".join(uris.printable(name, 60) for name in first.values())
        raise errors.ManifestError(
            f"{manifest}: found files of {len(first)} kinds ({named}), expected one kind; name the file or folder that is meant"
        )
    return next(iter(first))


def _parsed(folder: str, infos: Sequence[Info], text_columns: Collection[str], *, has_uri_column: bool) -> Iterator[_File]:
    rows = 0
    for info, content in zip(infos, _contents(infos), strict=True):
        name = _inside(folder, info)
        subject = f"manifest {uris.shown(folder)}: {uris.printable(name)}"
        try:
            parsed = formats.read(formats.extension_of(info.uri) or "", content, text_columns, has_uri_column=has_uri_column)
        except parse.UnreadableError as error:
            raise errors.ManifestError(f"{subject}: {error}") from error
        table = parsed.table
        if len(set(table.column_names)) < table.num_columns:
            raise errors.ManifestError(f"{subject}: found two columns of one name, expected different names")
        if (rows := rows + table.num_rows) > parse.MOST_ROWS:
            raise errors.ManifestError(
                f"{subject}: more than {parse.MOST_ROWS:,} rows up to and including this file, the limit of a manifest"
            )
        yield _File(name, hashlib.sha256(content).hexdigest(), table, parsed.problems, parsed.warnings)


def _contents(infos: Sequence[Info]) -> Iterator[bytes]:
    """Yield the bytes of files, many fetched at once if they are small."""
    mean = max(1, sum(info.bytes for info in infos) // max(1, len(infos)))
    threads = min(THREADS, IN_FLIGHT_BYTES // (AHEAD * mean))
    all_uris = [info.uri for info in infos]
    return in_threads(storage.read, all_uris, threads=threads) if threads else map(storage.read, all_uris)


def _partitions(manifest: str, names: Sequence[str], text_columns: Collection[str]) -> dict[str, dict[str, pa.Scalar]]:
    """Return the values of Hive's partitions of each file: `genre=rock/year=1999/part-0.parquet`."""
    texts = {name: _keys(manifest, name) for name in names}
    kinds = dict[str, pa.DataType]()
    for keys in texts.values():
        for key, value in keys.items():
            is_integer = key not in text_columns and (value is None or _INTEGER.fullmatch(value))
            if value is not None or key not in kinds:
                kinds[key] = pa.int64() if is_integer and kinds.get(key, pa.int64()) == pa.int64() else pa.string()
    return {
        name: {key: pa.scalar(value, pa.string()).cast(kinds[key]) for key, value in keys.items()} for name, keys in texts.items()
    }


def _keys(manifest: str, name: str) -> dict[str, str | None]:
    keys = dict[str, str | None]()
    for component in name.split("/")[:-1]:
        key, sign, value = component.partition("=")
        if not (sign and key):
            continue
        try:
            key, value = unquote(key, errors="strict"), unquote(value, errors="strict")
        except UnicodeDecodeError as error:
            raise errors.ManifestError(f"{manifest}: {uris.printable(name)}: {uris.printable(component)} is not UTF-8") from error
        if key in keys:
            raise errors.ManifestError(f"{manifest}: {uris.printable(name)}: found two folders of {uris.printable(key)}=")
        keys[key] = None if value == NULL_PARTITION else value
    return keys


def _with_partitions(manifest: str, files: Iterable[_File], partitions: Mapping[str, Mapping[str, pa.Scalar]]) -> list[_File]:
    """Add the partitions' columns. A file's own column of the same name stays, and has to have the same value.

    Raises:
        ManifestError: A file's column differs from the name of its folder.
    """
    parted = []
    for file in files:
        table = file.table
        for key, value in partitions[file.name].items():
            if key not in table.column_names:
                table = table.append_column(key, pa.repeat(value, table.num_rows))
            elif not _agrees(table.column(key), value):
                shown = uris.printable(f"{key}={NULL_PARTITION if value.as_py() is None else value.as_py()}", 80)
                raise errors.ManifestError(
                    f"{manifest}: {uris.printable(file.name)}: column {uris.printable(key, 60)} differs from its folder {shown}; "
                    "expected the same value in both"
                )
        parted.append(replace(file, table=table))
    return parted


def _agrees(column: pa.ChunkedArray, value: pa.Scalar) -> bool:
    if value.as_py() is None:
        return bool(column.null_count == len(column))
    try:
        expected = value.cast(_plain(column.type))
        return bool(pc.all(pc.equal(column.cast(expected.type), expected), skip_nulls=False).as_py())
    except pa.ArrowException:
        return False


def _common_types(
    files: Sequence[_File], text_columns: Collection[str]
) -> tuple[dict[str, pa.DataType], dict[str, tuple[int, int]]]:
    """Return a type for each column; and for columns without a common one, the numbers of two files that differ."""
    types, clashes = dict[str, tuple[pa.DataType, int]](), dict[str, tuple[int, int]]()
    for number, file in enumerate(files):
        for column in file.table.schema:
            type, first = types.get(column.name, (column.type, number))
            merged = _merged(type, column.type) or (pa.string() if column.name in text_columns else None)
            if merged is None:
                clashes.setdefault(column.name, (first, number))
            else:
                types[column.name] = merged, (first if merged == type else number)
    return {name: type for name, (type, _) in types.items()}, clashes


def _merged(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return a type that holds the values of both, as float for integers and floats; None if there is none."""
    if first == second:
        return first
    for left, right in ((first, second), (_plain(first), _plain(second))):
        try:
            schemas = [pa.schema([("column", type)]) for type in (left, right)]
            return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        except pa.ArrowException:
            continue
    return None


def _plain(type: pa.DataType) -> pa.DataType:
    """Return the type of a column's values without the way they are stored."""
    if pa.types.is_dictionary(type):
        return _plain(type.value_type)
    return pa.string() if pa.types.is_string_view(type) else pa.binary() if pa.types.is_binary_view(type) else type


def _joined(manifest: str, files: list[_File], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Return the files' rows as one table of one chunk a column; the files' own columns are freed on the way."""
    columns = []
    for name, type in types.items():
        fitted = [_fitted(manifest, file, name, type) for file in files]
        chunks = pa.chunked_array([chunk for column in fitted for chunk in column.chunks], type)
        whole = pa.table([chunks], names=[name]).combine_chunks()  # unlike a column's, it takes text above 2 GiB
        columns.append(whole.column(0))
        del fitted, chunks
        files[:] = [replace(file, table=_without(file.table, name)) for file in files]
    return pa.table(columns, names=list(types))


def _without(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns(name) if name in table.column_names and table.num_columns > 1 else table


def _fitted(manifest: str, file: _File, name: str, type: pa.DataType) -> pa.ChunkedArray:
    """Return a file's column in the type that it has in all files; null if the file lacks it."""
    if name not in file.table.column_names:
        return pa.chunked_array([pa.nulls(file.table.num_rows, type)])
    try:
        return file.table.column(name).cast(type)
    except pa.ArrowException as error:
        raise errors.ManifestError(
            f"{manifest}: {uris.printable(file.name)}: column {uris.printable(name, 60)}: "
            f"found {uris.printable(str(file.table.schema.field(name).type))}, expected {uris.printable(str(type))} "
            f"as in other files ({parse.reason(error)})"
        ) from error
