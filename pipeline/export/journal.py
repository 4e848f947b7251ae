"""The journal of an export: one row per shard, which is its commit. The newest row is found by file name, then position.

Its files are Parquet with another extension, so that `DEST/**/*.parquet` are the rows of the dataset and nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.export.shards import SHARD
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.out.journal import Journal, new_run_after
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing
from sep_batch.pipeline.storage.threads import in_threads

FLUSH_S = 10.0
ENDING = ".shards"
_ENDINGS = (ENDING, ".parquet")  # the second in older exports
_YOUNGER = ("left_out",)  # columns that older exports lack
Key = tuple[str, int]  # a shard's split and number


@dataclass(frozen=True)
class Done:
    """A shard that is done, by its newest row: the facts for a resumed export and for the card.

    Attributes:
        excerpts, tracks, seconds: Amounts in it.
        left_out: Number of excerpts that are left out, since a stem is not active enough in them.
        active_s: Active seconds by stem.
        bytes: Bytes of its files.
        failed: Ids of tracks that are missing in it because of an error.
    """

    excerpts: int
    tracks: int
    seconds: float
    active_s: Mapping[str, float]
    bytes: int
    failed: tuple[str, ...]
    left_out: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Done:
        """Make it from a row."""
        size = sum(file["bytes"] for file in row["files"])
        failed = tuple(fault["id"] for fault in row["failed"])
        return cls(row["excerpts"], row["tracks"], row["seconds"], dict(row["active_s"]), size, failed, row.get("left_out") or 0)


class ShardJournal(Journal):
    """Writes the rows of durable shards, every `FLUSH_S` seconds and at the end, even after an error."""

    ending = ENDING

    def __init__(self, dest: str, run: str, *, check: Callable[[], None]) -> None:
        """Begin an export's journal.

        Args:
            dest: DEST.
            run: The export's name.
            check: Called before each flush; raises if this export may no longer write.
        """
        super().__init__(dest, run, check=check, flush_s=FLUSH_S)

    def _columns(self, rows: pa.Table) -> pa.Table:
        return rows


@listing
def done(dest: str) -> dict[Key, Done]:
    """Return every shard that has a row, and whose files have the sizes in the row: a removed shard is written again."""
    newest = {(row["split"], row["shard"]): row for row in rows(dest)}
    sizes = {file.uri[len(dest) + 1 :]: file.bytes for file in storage.find(dest)} if newest else {}
    return {
        key: Done.of(row) for key, row in newest.items() if all(sizes.get(file["path"]) == file["bytes"] for file in row["files"])
    }


def rows(dest: str) -> Iterator[dict[str, Any]]:
    """Yield all rows, the older ones first.

    Raises:
        NotRunnableError: A file of the journal is damaged, or not an export's.
    """
    files = _files(dest)
    for uri, content in zip(files, in_threads(storage.read, files), strict=True):
        yield from _read(uri, content).to_pylist()


def _read(uri: str, content: bytes) -> pa.Table:
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
        missing = [name for name in SHARD.names if name not in table.column_names and name not in _YOUNGER]
        if missing:
            raise pa.ArrowTypeError(f"no column {missing[0]}")
        return table.cast(pa.schema([SHARD.field(name) for name in table.column_names]))
    except (pa.ArrowException, KeyError) as error:
        why = uris.printable(errors.first_line(error))
        raise errors.NotRunnableError(
            f"{uri}: not a journal file of an export ({why}); remove it, and its shards are written again"
        ) from error


def new_run(dest: str) -> str:
    """Return a new export's name, by which its rows are the newest of the journal."""
    return new_run_after(map(uris.name, _files(dest)))


def _files(dest: str) -> list[str]:
    """List the journal's files, older ones first, without hidden files of macOS or NFS."""
    uris_found = (file.uri for file in storage.find(layout.journal_folder(dest)))
    return sorted(uri for uri in uris_found if uri.endswith(_ENDINGS) and not uris.name(uri).startswith("."))
