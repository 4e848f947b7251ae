"""Journal and index.

The journal is the truth while runs go on: a row in it is a track's commit. The index is a pure function of the journal: one row
per id, the newest, ordered by id.
"""

from __future__ import annotations

import io
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import storage, uris
from sep_batch.pipeline.manifest import Finished
from sep_batch.pipeline.rows import JOURNAL, SCHEMA_KEY, SCHEMA_VERSION, journal_table

FLUSH_S = 30.0
FLUSH_ROWS = 1000
ROW_GROUP_ROWS = 100_000
INDEX_FILE = "index.parquet"
_JOURNAL_FILE = re.compile(r"(\d+)-.*[.]parquet")


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
    names = (uris.name(found.uri) for found in storage.find(journal_folder(out)))
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
        self._pending: list[pa.Table] = []
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
            full = sum(table.num_rows for table in self._pending) >= FLUSH_ROWS
        if full:
            self.flush()

    def flush(self) -> None:
        """Write the pending rows as one more journal file."""
        with self._lock:
            if not self._pending:
                return
            self._check()
            table = pa.concat_tables(self._pending, promote_options="permissive")
            content = io.BytesIO()
            pyarrow.parquet.write_table(table, content)
            uri = f"{journal_folder(self.out)}/{self.run}-{self._files:06d}.parquet"
            storage.put(uri, content.getvalue(), scratch=parts_folder(self.out, self.run))
            self._files += 1
            self._pending = []

    def _flush_often(self) -> None:
        while not self._ended.wait(self._flush_s):
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 (raised again in the run's own thread)
                self._failure = error
                return


def finished(out: str) -> dict[str, Finished]:
    """Return the newest row of every id ever run in this OUT, as far as the plan asks."""
    with _newest(out) as newest:
        if newest is None:
            return {}
        rows: list[tuple[Any, ...]] = newest.sql(
            "SELECT id, status, uri, offset_s, duration_s, source_etag, settings_sha256, "
            "coalesce(transient, false), coalesce(attempts, 1) FROM newest"
        ).fetchall()
    return {name: Finished(*values) for name, *values in rows}


def publish(out: str, run: str) -> bool:
    """Write the index from the journal; tell whether there was anything to write."""
    with _newest(out) as newest:
        if newest is None:
            return False
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / INDEX_FILE
            rows = "SELECT * EXCLUDE (_sep_file, file_row_number) FROM newest ORDER BY id"
            key = f"{SCHEMA_KEY.decode()}: '{SCHEMA_VERSION}'"
            form = f"FORMAT parquet, ROW_GROUP_SIZE {ROW_GROUP_ROWS}, KV_METADATA {{{key}}}"
            newest.sql(f"COPY ({rows}) TO '{path}' ({form})")
            storage.put(f"{out}/{INDEX_FILE}", path.read_bytes(), scratch=parts_folder(out, run))
    return True


def read(out: str) -> pa.Table:
    """Read the published index.

    Raises:
        NotFound: None was published.
    """
    return pyarrow.parquet.read_table(io.BytesIO(storage.read(f"{out}/{INDEX_FILE}")))


@contextmanager
def _newest(out: str) -> Iterator[duckdb.DuckDBPyConnection | None]:
    """Open the journal as a view `newest`: one row per id, the newest by file name, then position."""
    files = [found.uri for found in storage.find(journal_folder(out)) if found.uri.endswith(".parquet")]
    if not files:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(config={"temp_directory": folder}) as connection:
        paths = [_here(uri, Path(folder)) for uri in files]
        empty = Path(folder) / "columns.parquet"  # so that a journal older than a column reads on, with nulls
        pyarrow.parquet.write_table(JOURNAL.empty_table(), empty)
        connection.sql("SET TimeZone = 'UTC'")
        rows = connection.sql(
            "SELECT *, file_row_number FROM read_parquet($files, union_by_name = true, filename = '_sep_file')",
            params={"files": [str(empty), *paths]},
        )
        rows.create_view("rows")
        connection.sql(
            "CREATE VIEW newest AS SELECT * FROM rows QUALIFY row_number() OVER "
            "(PARTITION BY id ORDER BY parse_filename(_sep_file) DESC, file_row_number DESC) = 1"
        )
        yield connection


def _here(uri: str, folder: Path) -> str:
    """Return a journal file as a path on this machine, for DuckDB."""
    if uris.is_local(uri):
        return uri
    path = folder / uris.name(uri)
    path.write_bytes(storage.read(uri))
    return str(path)
