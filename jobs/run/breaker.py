"""The circuit breaker: whether a storage's failures are the tracks' own, or the storage's.

A failure of storage is held back, and marks no track, until it is known whose it is. It is the track's own once another track
got through to the same place. It is the place's, and ends the run, where `IN_A_ROW` tracks failed there with none
getting through, or where the place said so itself (wrong credentials, no such bucket, a full disk).
"""

from __future__ import annotations

import pyarrow as pa

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.rows import each, value
from sep_batch.pipeline.storage import uris

IN_A_ROW = 20
_FETCHED = ("decode", "separate", "write")  # stages behind the fetch
_OF_STORAGE = tuple(
    one.error_class for one in (errors.AccessDenied, errors.FetchTimeout, errors.StorageUnusable, errors.WriteFailed)
)
_PROBED = (errors.FetchTimeout.error_class, errors.WriteFailed.error_class)


class Breaker:
    """Takes finished rows, and lets through those that may be journaled."""

    def __init__(self, out: str) -> None:
        self._out = out
        self._held: dict[str, list[pa.Table]] = {}
        self._worked: set[str] = set()

    def take(self, rows: pa.Table) -> list[pa.Table]:
        """Return the rows that are known to be the tracks' own; perhaps earlier ones too, perhaps none.

        Raises:
            NotRunnableError: A storage is unusable.
        """
        let_through: list[pa.Table] = []
        for row in each(rows):
            for place in self._proven(row):
                self._worked.add(place)
                let_through += self._held.pop(place, [])
            suspect = self._suspect(row)
            let_through += [row] if suspect is None else self._hold(suspect, row)
        return let_through

    def rest(self) -> list[pa.Table]:
        """Return what is still held at the end of a run, if its places answer now.

        Raises:
            NotRunnableError: One does not.
        """
        let_through: list[pa.Table] = []
        for place, rows in self._held.items():
            last = rows[-1]
            if value(last, "error_class") == errors.StorageUnusable.error_class and not self._others_worked(place):
                raise _unusable(last)
            if value(last, "error_class") in _PROBED:
                self._probe(place, last)
            let_through += rows
        self._held.clear()
        return let_through

    def _hold(self, place: str, row: pa.Table) -> list[pa.Table]:
        """Hold a row back, and return those that are let through all the same."""
        kind = value(row, "error_class")
        if kind == errors.StorageUnusable.error_class and (place == self._out or place in self._worked):
            raise _unusable(row)
        if kind == errors.AccessDenied.error_class and place in self._worked:
            return [row]
        held = self._held.setdefault(place, [])
        held.append(row)
        if len(held) < IN_A_ROW:
            return []
        if kind == errors.StorageUnusable.error_class and self._others_worked(place):
            return self._held.pop(place)
        raise _unusable(row, f"{len(held)} tracks in a row failed at {place}, the last: ")

    def _proven(self, row: pa.Table) -> list[str]:
        """Return the places that a row shows to work."""
        source = self._source(row)
        if value(row, "status") == "ok":
            return [source, self._out]
        return [source] if value(row, "error_stage") in _FETCHED else []

    def _suspect(self, row: pa.Table) -> str | None:
        """Return the place that a row's failure may be the fault of."""
        kind, source = value(row, "error_class"), self._source(row)
        if kind not in _OF_STORAGE or (kind == errors.AccessDenied.error_class and source == uris.DISKS):
            return None  # who may read a file is said file by file
        return source if value(row, "error_stage") == "fetch" else self._out

    def _source(self, row: pa.Table) -> str:
        return uris.store(value(row, "uri"))

    def _others_worked(self, place: str) -> bool:
        return bool(self._worked - {place, self._out})

    def _probe(self, place: str, row: pa.Table) -> None:
        try:
            if place == self._out:
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
