"""Circuit breaker: a storage that fails ends the run; a single object that fails marks only its track.

A failed row that the storage may have caused is held back, and marks no track, until the cause is clear. The track is the
cause if another track succeeded on the same storage. The storage is the cause, and ends the run, if `IN_A_ROW` tracks failed
on it and none succeeded, or if it reported a fault of its own (wrong credentials, no such bucket, a full disk).
A storage is OUT, a source's bucket, or all local disks together, as `uris.store` returns it.
"""

from __future__ import annotations

import pyarrow as pa

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.rows import each, value
from sep_batch.pipeline.storage import uris

IN_A_ROW = 20
_FETCHED = ("decode", "separate", "write")  # stages behind the fetch
_OF_STORAGE = tuple(
    error.error_class for error in (errors.AccessDenied, errors.FetchTimeout, errors.StorageUnusable, errors.WriteFailed)
)
_PROBED = (errors.FetchTimeout.error_class, errors.WriteFailed.error_class)


class Breaker:
    """Filter of finished rows: passes on those that may be journaled, and holds back the others."""

    def __init__(self, out: str) -> None:
        self._out = out
        self._held: dict[str, list[pa.Table]] = {}
        self._worked: set[str] = set()

    def take(self, rows: pa.Table) -> list[pa.Table]:
        """Return the rows that may be journaled now: some or none of these, and rows held back earlier.

        Raises:
            NotRunnableError: A storage is unusable.
        """
        let_through: list[pa.Table] = []
        for row in each(rows):
            for root in self._proven(row):
                self._worked.add(root)
                let_through += self._held.pop(root, [])
            suspect = self._suspect(row)
            let_through += [row] if suspect is None else self._hold(suspect, row)
        return let_through

    def rest(self) -> list[pa.Table]:
        """Return the rows still held back at the end of a run, if their storage answers now.

        Raises:
            NotRunnableError: A storage does not answer.
        """
        let_through: list[pa.Table] = []
        for root, rows in self._held.items():
            last = rows[-1]
            if value(last, "error_class") == errors.StorageUnusable.error_class and not self._others_worked(root):
                raise _unusable(last)
            if value(last, "error_class") in _PROBED:
                self._probe(root, last)
            let_through += rows
        self._held.clear()
        return let_through

    def _hold(self, root: str, row: pa.Table) -> list[pa.Table]:
        """Hold a row back; return the rows that may be journaled all the same."""
        kind = value(row, "error_class")
        if kind == errors.StorageUnusable.error_class and (root == self._out or root in self._worked):
            raise _unusable(row)
        if kind == errors.AccessDenied.error_class and root in self._worked:
            return [row]
        held = self._held.setdefault(root, [])
        held.append(row)
        if len(held) < IN_A_ROW:
            return []
        if kind == errors.StorageUnusable.error_class and self._others_worked(root):
            return self._held.pop(root)
        raise _unusable(row, f"{len(held)} tracks in a row failed at {root}, the last: ")

    def _proven(self, row: pa.Table) -> list[str]:
        """Return the storages that a row proves to work."""
        source = self._source(row)
        if value(row, "status") == "ok":
            return [source, self._out]
        return [source] if value(row, "error_stage") in _FETCHED else []

    def _suspect(self, row: pa.Table) -> str | None:
        """Return the storage that may have caused a row's failure."""
        kind, source = value(row, "error_class"), self._source(row)
        if kind not in _OF_STORAGE or (kind == errors.AccessDenied.error_class and source == uris.DISKS):
            return None  # a disk has permissions for each file: a denied one says nothing about the others
        return source if value(row, "error_stage") == "fetch" else self._out

    def _source(self, row: pa.Table) -> str:
        return uris.store(value(row, "uri"))

    def _others_worked(self, root: str) -> bool:
        return bool(self._worked - {root, self._out})

    def _probe(self, root: str, row: pa.Table) -> None:
        try:
            if root == self._out:
                storage.put(f"{self._out}/_sep/probe", b"")
                storage.remove(f"{self._out}/_sep/probe")
            else:
                storage.exists(value(row, "uri"))
        except errors.AccessDenied:
            return
        except errors.TrackError as error:
            raise errors.NotRunnableError(f"storage does not answer: {error}") from error


def _unusable(row: pa.Table, before: str = "") -> errors.NotRunnableError:
    return errors.NotRunnableError(f"storage: {before}{value(row, 'error')}")
