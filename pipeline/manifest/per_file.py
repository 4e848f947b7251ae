"""One call for every file of a manifest, many at once. A file for which it fails stays, with nulls and a warning."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest.audio_files import counted
from sep_batch.pipeline.storage import Info, uris
from sep_batch.pipeline.storage.threads import in_threads

KNOWN = pa.schema([("size", pa.int64()), ("source_etag", pa.string())])
BLOCK_ROWS = 10_000  # of results, as Python values
SHOWN = 5  # of files whose call failed
MOST_IN_A_ROW = 100  # files without an answer, after which storage counts as down
Question = Callable[[Info], tuple[Any, ...]]
CountFiles = Callable[[int], None]


@dataclass
class Unanswered:
    """Files for which the call failed.

    Attributes:
        count: Number of these files.
        first: The first of them, each with its reason.
    """

    count: int = 0
    first: tuple[str, ...] = ()

    def add(self, reason: str) -> None:
        """Count one more."""
        self.count += 1
        self.first = (*self.first, reason)[:SHOWN]

    def warnings(self, predicate: str) -> list[str]:
        """Return a warning, or none if no call failed; `predicate` completes "3 files ..."."""
        files, more = counted(self.count, "file"), "; ..." * (self.count > SHOWN)
        return [f"{files} {predicate}: {'; '.join(self.first)}{more}"] if self.count else []


def ask_files(table: pa.Table, question: Question, answers: pa.Schema, count_files: CountFiles) -> tuple[pa.Table, Unanswered]:
    """Add the results of a call for each of a manifest's files; and sizes and etags that were unknown.

    Args:
        table: Manifest with uri, size and source_etag. Excerpts of one file share one call.
        question: Called in threads; returns the values of `answers`.
        answers: The columns to add, or to replace.
        count_files: Called with the number of rows handled since the last call.

    Raises:
        NotRunnableError: Storage does not answer at all: wrong credentials, no such bucket, no answer for many files in a row.
    """
    files = table.group_by("uri", use_threads=False).aggregate([(name, "max") for name in KNOWN.names])
    files = files.select(["uri", *(f"{name}_max" for name in KNOWN.names)]).rename_columns(["uri", *KNOWN.names])
    count_files(table.num_rows - files.num_rows)
    schema, unanswered, blocks = pa.schema([*KNOWN, *answers]), Unanswered(), list[pa.Table]()
    replies = _replies(files, partial(_reply, question, len(answers)), unanswered, count_files)
    while block := list(itertools.islice(replies, BLOCK_ROWS)):
        columns = zip(schema, zip(*block, strict=True), strict=True)
        blocks.append(pa.table([pa.array(column, field.type) for field, column in columns], schema=schema))
    answered = pa.concat_tables([schema.empty_table(), *blocks]).take(pc.index_in(table.column("uri"), files.column("uri")))
    for field in schema:
        column = answered.column(field.name)
        if field.name not in table.column_names:
            table = table.append_column(field, column)
            continue
        new = pc.coalesce(table.column(field.name), column) if field.name in KNOWN.names else column
        table = table.set_column(table.column_names.index(field.name), field, new)
    return table, unanswered


def _replies(
    files: pa.Table, reply: Callable[[dict[str, Any]], tuple[Any, ...]], unanswered: Unanswered, count_files: CountFiles
) -> Iterator[tuple[Any, ...]]:
    rows = (row for batch in files.to_batches(BLOCK_ROWS) for row in batch.to_pylist())
    in_a_row = 0
    for *values, error in in_threads(reply, rows):
        in_a_row = in_a_row + 1 if isinstance(error, errors.FetchTimeout) else 0
        if in_a_row == MOST_IN_A_ROW or isinstance(error, errors.StorageUnusable):
            raise errors.NotRunnableError(f"storage: {error}") from error
        if error is not None:
            unanswered.add(_reason(error))
        count_files(1)
        yield tuple(values)


def _reply(question: Question, count: int, file: dict[str, Any]) -> tuple[Any, ...]:
    """Return size, etag, the values of the answer, and None; or nulls for the values, and the error."""
    uri, info = file["uri"], Info(file["uri"], file["size"], file["source_etag"])
    try:
        info = info if info.bytes is not None else storage.info(uri)
        return info.bytes, info.etag, *question(info), None
    except Exception as error:  # noqa: BLE001 (one file's failure becomes a warning)
        error.add_note(uris.shown(uri))
        return info.bytes, info.etag, *[None] * count, error


def _reason(error: Exception) -> str:
    uri, text = error.__notes__[-1], str(errors.describe(error, "probe")["error"]).strip().rpartition("\n")[2]
    return text if text.startswith(uri) else f"{uri}: {text}"
