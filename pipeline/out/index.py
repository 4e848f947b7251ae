"""Journal and index.

The journal is the truth while runs go on: a row in it is a track's commit. The index is a pure function of the journal: one row
per id, the newest, ordered by id.
"""

from __future__ import annotations

import io
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import compaction, sort_by_id
from sep_batch.pipeline.out.column_types import foreign, united
from sep_batch.pipeline.rows import JOURNAL, SCHEMA_KEY, SCHEMA_VERSION, journal_table
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing
from sep_batch.pipeline.storage.threads import spread

FLUSH_S = 30.0
FLUSH_ROWS = 1000
INDEX_FILE = "index.parquet"
IS_DAMAGED = "truncated OR skipped_packets > 0"  # in SQL, of a track that is ok: not all of its file could be decoded
_DUCKDB: dict[str, str | int | bool] = {  # what does not fit is spilled; each thread needs some of it
    "memory_limit": "640MB",
    "threads": 4,
    "preserve_insertion_order": False,
}
_COLUMNS_FILE = "columns.parquet"  # no rows: a journal older than a column reads on, with nulls
_JOURNAL_FILE = re.compile(r"(\d+)-.*[.](parquet|shards)")  # the second is an export's


def journal_folder(out: str) -> str:
    """Return where OUT's journal lies."""
    return f"{out}/_sep/journal"


def parts_folder(out: str, run: str) -> str:
    """Return where a run's unfinished work lies: temporary files and parts."""
    return f"{out}/_sep/parts/{run}"


def plan_folder(out: str, run: str) -> str:
    """Return where a run's plan lies."""
    return f"{out}/_sep/plan/{run}"


def new_run(out: str) -> str:
    """Return a run's name: 1 + the highest in the journal, and four random hex digits."""
    return new_run_after(uris.name(found.uri) for found in storage.find(journal_folder(out)))


def new_run_after(names: Iterable[str]) -> str:
    """Return a run's name that is newer than those which files of a journal have."""
    numbers = [int(found[1]) for name in names if (found := _JOURNAL_FILE.fullmatch(name))]
    return f"{max(numbers, default=0) + 1:06d}-{secrets.token_hex(2)}"


class Journal:
    """Takes finished rows and makes them durable: every 1,000, every `flush_s` seconds, and at the end however it ends."""

    def __init__(self, out: str, run: str, *, check: Callable[[], None], flush_s: float = FLUSH_S) -> None:
        """Begin a run's journal.

        Args:
            out: OUT.
            run: The run's name.
            check: Called before each flush; raises where the run may write no more.
            flush_s: Seconds between two flushes.
        """
        self.out, self.run, self._check, self._flush_s = out, run, check, flush_s
        self._pending, self._waiting = list[pa.Table](), 0
        self._files = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._flush_often, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self.flush()

    def add(self, rows: pa.Table) -> None:
        """Take finished rows of a flow.

        Raises:
            TrackError: Storage did not take an earlier flush.
            LeaseHeldError: Another run has taken OUT over.
        """
        if self._failure:
            raise self._failure
        with self._lock:
            self._pending.append(journal_table(rows))
            self._waiting += rows.num_rows
            full = self._waiting >= FLUSH_ROWS
        if full:
            self.flush()

    def flush(self) -> None:
        """Write the pending rows as one more journal file."""
        with self._lock:
            if not self._pending:
                return
            self._check()
            table = pa.concat_tables(self._pending, promote_options="permissive").combine_chunks()
            content = io.BytesIO()
            pyarrow.parquet.write_table(table, content)
            uri = f"{journal_folder(self.out)}/{self.run}-{self._files:06d}.parquet"
            storage.put(uri, content.getvalue(), scratch=parts_folder(self.out, self.run))
            self._files += 1
            self._pending, self._waiting = [], 0

    def _flush_often(self) -> None:
        while not self._ended.wait(self._flush_s):
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 (raised again in the run's own thread)
                self._failure = error
                return


def publish(out: str, run: str) -> bool:
    """Write the index from the journal; tell whether there was anything to write."""
    with opened(out) as journal, beside(out, run) as folder:
        if not journal.files:
            return False
        path, bounds = folder / INDEX_FILE, sort_by_id.bounds(journal.database)
        newest = np.sort(journal.database.sql("FROM newest_places").fetchnumpy()["_sep_place"])
        rows = _of(newest, journal.database.sql("FROM whole_rows").to_arrow_reader(sort_by_id.BATCH_ROWS))
        with tempfile.TemporaryDirectory(dir=folder) as ranges:
            sort_by_id.write(rows, bounds, Path(ranges), path)
        storage.put_file(f"{out}/{INDEX_FILE}", path)
    return True


def _of(places: np.ndarray, rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Return the rows at some places, which ascend, as the index has them; a join in the database would hold many of them."""
    columns = [field for field in rows.schema if field.name not in ("_sep_file", "_sep_place")]
    schema = pa.schema(columns, {SCHEMA_KEY: SCHEMA_VERSION})

    def chosen() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            found = batch.column("_sep_place").to_numpy()
            is_one = places[np.searchsorted(places, found).clip(max=len(places) - 1)] == found
            yield batch.filter(pa.array(is_one)).select(schema.names).cast(schema)

    return pa.RecordBatchReader.from_batches(schema, chosen())


def compact(out: str, run: str, *, check: Callable[[], None]) -> None:
    """Make few files of the journal's many, before it is read.

    Args:
        out: OUT.
        run: The name of the run that holds OUT.
        check: Raises where that may write no more.
    """
    with beside(out, run) as folder:
        compaction.compact(journal_folder(out), folder, check)


@contextmanager
def beside(out: str, run: str) -> Iterator[Path]:
    """Yield a folder of this machine for files that are put into OUT then; where that is on a disk, on the same one."""
    if uris.is_local(out):
        folder = Path(parts_folder(out, run))
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def read(out: str) -> pa.Table:
    """Read the published index.

    Raises:
        NotFound: None was published.
    """
    return pyarrow.parquet.read_table(io.BytesIO(storage.read(f"{out}/{INDEX_FILE}")))


@dataclass(frozen=True)
class Opened:
    """The journal, opened for SQL.

    A manifest may name its columns as it likes. So what is asked of the journal's own columns is asked of views that have no
    others, where no name can mean two things; those with the manifests' columns as well begin with `whole_`.

    Attributes:
        database: Has the views `rows`, all of every run, and `newest`, one per id, the newest by file name, then position, both
            also as `whole_rows` and `whole_newest`; and `newest_places`, where the newest are.
        files: How many journal files they are made of.
        unreadable: The files that are left out, by URI, and why.
        folder: Of this machine, for what is made of the journal; removed when it is closed.
    """

    database: duckdb.DuckDBPyConnection
    files: int
    unreadable: dict[str, str]
    folder: Path

    def view(self, name: str, paths: Sequence[str]) -> None:
        """Make two views of Parquet files that have all columns of the journal, older than a column or not.

        Args:
            name: Of the view without the manifests' own columns; the one with them is `whole_` and this.
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
def opened(out: str, *, skip_unreadable: bool = False) -> Iterator[Opened]:
    """Open the journal. Without the lease, call this in a function that `retries.listing` decorates.

    On a disk, views read the journal's own files, which a run that begins or ends in the meantime may merge and remove.

    Args:
        out: OUT.
        skip_unreadable: Read every file through first, and leave out and name what cannot be read.

    Raises:
        NotRunnableError: A file cannot be read.
        JournalChangedError: A file was merged and removed while the journal was open.
    """
    with tempfile.TemporaryDirectory() as name, duckdb.connect(config={"temp_directory": name, **_DUCKDB}) as connection:
        journal, paths = _open(out, connection, Path(name), skip_unreadable=skip_unreadable)
        with _faults_named(out, paths, skip_unreadable=skip_unreadable):
            yield journal


@listing
def _open(
    out: str, connection: duckdb.DuckDBPyConnection, folder: Path, *, skip_unreadable: bool
) -> tuple[Opened, dict[str, str]]:
    """List the journal and make its views; return also the path on this machine of each of its files, by URI."""
    files = compaction.needed(storage.find(journal_folder(out)))
    paths = dict(zip(files, spread(partial(here, folder=folder), files), strict=True))
    unreadable = {uri: why for uri, path in paths.items() if (why := fault(path))} if skip_unreadable else {}
    if unreadable:
        _refuse_removed(out, paths)
    journal = Opened(connection, len(files) - len(unreadable), unreadable, folder)
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
    if gone and (removed := gone - {found.uri for found in storage.find(journal_folder(out))}):
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
