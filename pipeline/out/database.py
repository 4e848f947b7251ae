"""The journal for readers: its files as views of DuckDB."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import compaction, layout
from sep_batch.pipeline.out.column_types import foreign, united
from sep_batch.pipeline.rows import JOURNAL
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing
from sep_batch.pipeline.storage.threads import in_threads

IS_DAMAGED = "truncated OR skipped_packets > 0"  # SQL, for rows that are ok: not all of the file could be decoded
DUCKDB: dict[str, str | int | bool] = {  # beyond the limit DuckDB spills to disk; each thread needs some of the memory
    "memory_limit": "640MB",
    "threads": 4,
    "preserve_insertion_order": False,
}
_COLUMNS_FILE = "columns.parquet"  # all columns and no rows: a journal older than a column has nulls in it


@dataclass(frozen=True)
class JournalDatabase:
    """The journal, opened for SQL.

    A manifest may name its columns as it likes. Queries of the journal's own columns therefore use views that have no others, so
    that no name is ambiguous. The names of views with the manifests' columns as well begin with `whole_`.

    Attributes:
        database: Connection with the views `rows`, all rows of every run, and `newest`, one row per id, the newest by file name,
            then position; both also as `whole_rows` and `whole_newest`. `newest_places` has the positions of the newest rows.
        files: Number of journal files that the views read.
        unreadable: Reasons why files are left out, by URI.
        folder: Local folder for temporary files; removed when the journal is closed.
    """

    database: duckdb.DuckDBPyConnection
    files: int
    unreadable: dict[str, str]
    folder: Path

    def view(self, name: str, paths: Sequence[str]) -> None:
        """Create two views of Parquet files; a column that a file is too old to have is null.

        Args:
            name: Name of the view without the manifests' columns; the view with them is `whole_<name>`.
            paths: Local files. Column `_sep_file` has a row's file, `_sep_place` its position, which ascends within each file.
        """
        selects, files = [], {}
        for number, (pairs, alike) in enumerate(united(paths, self.database).items()):
            replaced = ", ".join(f"{sql} AS {column}" for column, sql, _ in pairs)
            columns = f"* REPLACE ({replaced})" if replaced else "*"
            read = f"read_parquet($files{number}, union_by_name = true, filename = '_sep_file')"
            position = f"({number}::BIGINT << 56) + (file_index::BIGINT << 32) + file_row_number AS _sep_place"
            selects.append(f"SELECT {columns}, {position} FROM {read}")  # noqa: S608 (names are quoted)
            files[f"files{number}"] = [str(self.folder / _COLUMNS_FILE), *alike]
        self.database.sql(" UNION ALL BY NAME ".join(selects), params=files).create_view(f"whole_{name}")
        self.narrow(name)

    def narrow(self, name: str) -> None:
        """Create the view `name` of `whole_<name>`: the journal's own columns, `_sep_file` and `_sep_place`."""
        columns = ", ".join(JOURNAL.names)
        self.database.sql(f"CREATE OR REPLACE VIEW {name} AS SELECT {columns}, _sep_file, _sep_place FROM whole_{name}")  # noqa: S608 (constants)


@contextmanager
def opened(out: str, *, skip_unreadable: bool = False) -> Iterator[JournalDatabase]:
    """Open the journal. Without the lease, call this in a function that `retries.listing` decorates.

    On a disk, views read the journal's own files, which a run that begins or ends in the meantime may merge and remove.

    Args:
        out: OUT.
        skip_unreadable: Read every file through first; leave out unreadable ones, and name them in `unreadable`.

    Raises:
        NotRunnableError: A file cannot be read.
        JournalChangedError: A file was merged and removed while the journal was open.
    """
    with tempfile.TemporaryDirectory() as name, duckdb.connect(config={"temp_directory": name, **DUCKDB}) as connection:
        journal, paths = _open(out, connection, Path(name), skip_unreadable=skip_unreadable)
        with _faults_named(out, paths, skip_unreadable=skip_unreadable):
            yield journal


@listing
def _open(
    out: str, connection: duckdb.DuckDBPyConnection, folder: Path, *, skip_unreadable: bool
) -> tuple[JournalDatabase, dict[str, str]]:
    """List the journal and create its views; return also the local path of each of its files, by URI."""
    files = compaction.needed(storage.find(layout.journal_folder(out)))
    paths = dict(zip(files, in_threads(partial(here, folder=folder), files), strict=True))
    unreadable = {uri: why for uri, path in paths.items() if (why := fault(path))} if skip_unreadable else {}
    if unreadable:
        _refuse_removed(out, paths)
    journal = JournalDatabase(connection, len(files) - len(unreadable), unreadable, folder)
    pyarrow.parquet.write_table(JOURNAL.empty_table(), folder / _COLUMNS_FILE)
    connection.sql("SET TimeZone = 'UTC'")
    with _faults_named(out, paths, skip_unreadable=skip_unreadable):
        journal.view("rows", [path for uri, path in paths.items() if uri not in unreadable])
        connection.sql(  # the sort holds no other columns: rows are wide
            "CREATE OR REPLACE VIEW newest_places AS SELECT _sep_place FROM rows QUALIFY row_number() "
            "OVER (PARTITION BY id ORDER BY parse_filename(_sep_file) DESC, _sep_place DESC) = 1"
        )
        connection.sql("CREATE OR REPLACE VIEW whole_newest AS SELECT * FROM whole_rows WHERE _sep_place IN (FROM newest_places)")
        journal.narrow("newest")
    return journal, paths


@contextmanager
def _faults_named(out: str, paths: Mapping[str, str], *, skip_unreadable: bool) -> Iterator[None]:
    """Turn errors of reading the journal into errors that name the removed or damaged file."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        _refuse_removed(out, paths)
        torn = next((f"{uri}: {why}" for uri, path in paths.items() if (why := fault(path))), None)
        if torn is None or skip_unreadable:
            raise
        raise errors.NotRunnableError(f"journal {torn}; sep-batch verify OUT --repair sets it aside") from error


def _refuse_removed(out: str, paths: Mapping[str, str]) -> None:
    """Refuse a journal if files that were listed are gone: a run has merged them.

    Raises:
        JournalChangedError: A listed file is gone.
    """
    gone = {uri for uri, path in paths.items() if not Path(path.removeprefix("file://")).exists()}
    if gone and (removed := gone - {info.uri for info in storage.find(layout.journal_folder(out))}):
        raise errors.JournalChangedError(f"journal {min(removed)}: merged and removed while it was read; try again")


def here(uri: str, folder: Path) -> str:
    """Return a local path of an object, for DuckDB; a remote object is copied, a large one range by range."""
    if uris.is_local(uri):
        return uri
    path = folder / uris.name(uri)
    source, _ = storage.open_source(uri)
    with source, path.open("wb") as copy:
        shutil.copyfileobj(source, copy, storage.RANGE_BYTES)
    return str(path)


def fault(path: str) -> str | None:
    """Return why a file cannot be read as rows of the journal; None if it can."""
    try:
        file = pyarrow.parquet.ParquetFile(path)
        for _ in file.iter_batches():  # the footer alone does not show damage
            pass
    except (pa.ArrowException, OSError) as error:
        return errors.first_line(error)
    return foreign(file.schema_arrow)
