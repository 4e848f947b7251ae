"""The journal while it is read: its files as tables of DuckDB."""

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

IS_DAMAGED = "truncated OR skipped_packets > 0"  # in SQL, of a track that is ok: not all of its file could be decoded
DUCKDB: dict[str, str | int | bool] = {  # what does not fit is spilled; each thread needs some of it
    "memory_limit": "640MB",
    "threads": 4,
    "preserve_insertion_order": False,
}
_COLUMNS_FILE = "columns.parquet"  # no rows: a journal older than a column reads on, with nulls


@dataclass(frozen=True)
class JournalDatabase:
    """The journal, opened for SQL.

    A manifest may name its columns as it likes. So what is asked of the journal's own columns is asked of views that have no
    others, where no name can mean two things; those with the manifests' columns as well begin with `whole_`.

    Attributes:
        database: Has the views `rows`, all of every run, and `newest`, one per id, the newest by file name, then position, both
            also as `whole_rows` and `whole_newest`; and `newest_places`, where the newest are.
        files: How many journal files they are made of.
        unreadable: The files that are left out, by URI, and why.
        folder: Folder of this machine for temporary files; removed when the journal is closed.
    """

    database: duckdb.DuckDBPyConnection
    files: int
    unreadable: dict[str, str]
    folder: Path

    def view(self, name: str, paths: Sequence[str]) -> None:
        """Make two views of Parquet files that have all columns of the journal, older than a column or not.

        Args:
            name: Name of the view without the manifests' own columns; the one with them is `whole_` and this.
            paths: Files of this machine. `_sep_file` says from which of them a row is; `_sep_place` its place, ascending in each.
        """
        selects, files = [], {}
        for number, (pairs, alike) in enumerate(united(paths, self.database).items()):
            replaced = ", ".join(f"{sql} AS {column}" for column, sql, _ in pairs)
            columns = f"* REPLACE ({replaced})" if replaced else "*"
            read = f"read_parquet($files{number}, union_by_name = true, filename = '_sep_file')"
            place = f"({number}::BIGINT << 56) + (file_index::BIGINT << 32) + file_row_number AS _sep_place"
            selects.append(f"SELECT {columns}, {place} FROM {read}")  # noqa: S608 (names are quoted)
            files[f"files{number}"] = [str(self.folder / _COLUMNS_FILE), *alike]
        self.database.sql(" UNION ALL BY NAME ".join(selects), params=files).create_view(f"whole_{name}")
        self.narrow(name)

    def narrow(self, name: str) -> None:
        """Make a view of the journal's own columns, and of `_sep_file` and `_sep_place`, of one that begins with `whole_`."""
        columns = ", ".join(JOURNAL.names)
        self.database.sql(f"CREATE OR REPLACE VIEW {name} AS SELECT {columns}, _sep_file, _sep_place FROM whole_{name}")  # noqa: S608 (ours)


@contextmanager
def opened(out: str, *, skip_unreadable: bool = False) -> Iterator[JournalDatabase]:
    """Open the journal. Without the lease, call this in a function that `retries.listing` decorates.

    On a disk, views read the journal's own files, which a run that begins or ends in the meantime may merge and remove.

    Args:
        out: OUT.
        skip_unreadable: Read every file through first, and leave out and name what cannot be read.

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
    """List the journal and make its views; return also the path on this machine of each of its files, by URI."""
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
        connection.sql(  # what sorts holds no more of a row than this: rows are wide
            "CREATE OR REPLACE VIEW newest_places AS SELECT _sep_place FROM rows QUALIFY row_number() "
            "OVER (PARTITION BY id ORDER BY parse_filename(_sep_file) DESC, _sep_place DESC) = 1"
        )
        connection.sql("CREATE OR REPLACE VIEW whole_newest AS SELECT * FROM whole_rows WHERE _sep_place IN (FROM newest_places)")
        journal.narrow("newest")
    return journal, paths


@contextmanager
def _faults_named(out: str, paths: Mapping[str, str], *, skip_unreadable: bool) -> Iterator[None]:
    """Say of what reading the journal's files raises which of them is removed or torn."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        _refuse_removed(out, paths)
        torn = next((f"{uri}: {why}" for uri, path in paths.items() if (why := fault(path))), None)
        if torn is None or skip_unreadable:
            raise
        raise errors.NotRunnableError(f"journal {torn}; sep-batch verify OUT --repair sets it aside") from error


def _refuse_removed(out: str, paths: Mapping[str, str]) -> None:
    """Refuse a journal of which files are gone that were listed: a run has merged them.

    Raises:
        JournalChangedError: So it is.
    """
    gone = {uri for uri, path in paths.items() if not Path(path.removeprefix("file://")).exists()}
    if gone and (removed := gone - {info.uri for info in storage.find(layout.journal_folder(out))}):
        raise errors.JournalChangedError(f"journal {min(removed)}: merged and removed while it was read; try again")


def here(uri: str, folder: Path) -> str:
    """Return an object as a path on this machine, for DuckDB; a large one is copied range by range."""
    if uris.is_local(uri):
        return uri
    path = folder / uris.name(uri)
    source, _ = storage.open_source(uri)
    with source, path.open("wb") as copy:
        shutil.copyfileobj(source, copy, storage.RANGE_BYTES)
    return str(path)


def fault(path: str) -> str | None:
    """Say why a file cannot be read as rows of the journal; None where it can."""
    try:
        file = pyarrow.parquet.ParquetFile(path)
        for _ in file.iter_batches():  # a footer alone does not tell
            pass
    except (pa.ArrowException, OSError) as error:
        return str(error).splitlines()[0]
    return foreign(file.schema_arrow)
