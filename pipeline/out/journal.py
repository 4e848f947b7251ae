"""The journal for writers: a row in it is the commit of a track."""

from __future__ import annotations

import io
import re
import secrets
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import storage
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.rows import journal_table
from sep_batch.pipeline.storage import uris

FLUSH_S = 30.0
FLUSH_ROWS = 1000
_JOURNAL_FILE = re.compile(r"(\d+)-.*[.](parquet|shards)")  # .shards: an export's
_RUN = re.compile(r"(\d{1,18}-[0-9a-f]{1,16})-\d.*[.]parquet")


def new_run(out: str) -> str:
    """Return a new run's name: 1 + the highest number in the journal, and four random hex digits."""
    return new_run_after(uris.name(info.uri) for info in storage.find(layout.journal_folder(out)))


def new_run_after(names: Iterable[str]) -> str:
    """Return a run's name that is newer than the names of a journal's files."""
    numbers = [int(match[1]) for name in names if (match := _JOURNAL_FILE.fullmatch(name))]
    return f"{max(numbers, default=0) + 1:06d}-{secrets.token_hex(2)}"


def runs(out: str) -> dict[str, datetime | None]:
    """Return the names of the runs that have rows in the journal, with the time of the last write; lists, and reads nothing."""
    last = dict[str, datetime | None]()
    for info in storage.find(layout.journal_folder(out)):
        if match := _RUN.fullmatch(uris.name(info.uri)):
            times = [time for time in (last.get(match[1]), info.modified) if time]
            last[match[1]] = max(times, default=None)
    return last


class Journal:
    """Writes finished rows: every 1,000 rows, every `flush_s` seconds, and at the end, even after an error."""

    ending = ".parquet"

    def __init__(self, out: str, run: str, *, check: Callable[[], None], flush_s: float = FLUSH_S) -> None:
        """Begin a run's journal.

        Args:
            out: OUT.
            run: The run's name.
            check: Called before each flush; raises if the run may no longer write.
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
        """Add finished rows of a flow.

        Raises:
            TrackError: Storage refused an earlier flush.
            LeaseHeldError: Another run has taken over OUT.
        """
        if self._failure:
            raise self._failure
        with self._lock:
            self._pending.append(self._columns(rows))
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
            uri = f"{layout.journal_folder(self.out)}/{self.run}-{self._files:06d}{self.ending}"
            storage.put(uri, content.getvalue(), scratch=layout.parts_folder(self.out, self.run))
            self._files += 1
            self._pending, self._waiting = [], 0

    def _columns(self, rows: pa.Table) -> pa.Table:
        """Return the columns of rows that the journal keeps."""
        return journal_table(rows)

    def _flush_often(self) -> None:
        while not self._ended.wait(self._flush_s):
            try:
                self.flush()
            except Exception as error:  # noqa: BLE001 (raised again in the run's own thread)
                self._failure = error
                return
