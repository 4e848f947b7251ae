"""One question to every file of a manifest, many at once. A file that gives no answer stays, with nulls, and is told of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import Info, uris
from sep_batch.pipeline.storage.threads import in_threads

KNOWN = pa.schema([("size", pa.int64()), ("source_etag", pa.string())])
BLOCK_ROWS = 10_000  # of answers, as Python's values
SHOWN = 5  # of files without an answer
MOST_IN_A_ROW = 100  # files that storage does not answer for
Question = Callable[[Info], tuple[Any, ...]]
Seen = Callable[[int], None]


@dataclass
class Unanswered:
    """Files that gave no answer.

    Attributes:
        count: How many.
        first: The first of them, each with its reason.
    """

    count: int = 0
    first: tuple[str, ...] = ()

    def add(self, reason: str) -> None:
        """Count one more."""
        self.count += 1
        self.first = (*self.first, reason)[:SHOWN]

    def told(self, what: str) -> list[str]:
        """Return what a person should know, nothing where there are none; `what` goes on as: 3 files ..."""
        return [f"{self.count} files {what}: {'; '.join(self.first)}{'; ...' * (self.count > SHOWN)}"] if self.count else []


def ask_files(table: pa.Table, question: Question, answers: pa.Schema, seen: Seen) -> tuple[pa.Table, Unanswered]:
    """Add to a manifest what a question gives for each of its files; and size and etag where they were not known.

    Args:
        table: With uri, size and source_etag. Excerpts of one file ask for it once.
        question: Called in threads; returns the values of `answers`.
        answers: The columns to add, or to replace.
        seen: Told of so many rows more.

    Raises:
        NotRunnableError: Storage gives nothing at all: wrong credentials, no such bucket, no answer to many in a row.
    """
    files = table.group_by("uri", use_threads=False).aggregate([(name, "max") for name in KNOWN.names])
    files = files.select(["uri", *(f"{name}_max" for name in KNOWN.names)]).rename_columns(["uri", *KNOWN.names])
    seen(table.num_rows - files.num_rows)
    schema, unanswered, blocks = pa.schema([*KNOWN, *answers]), Unanswered(), list[pa.Table]()
    replies = _replies(files, partial(_reply, question, len(answers)), unanswered, seen)
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
    files: pa.Table, reply: Callable[[dict[str, Any]], tuple[Any, ...]], unanswered: Unanswered, seen: Seen
) -> Iterator[tuple[Any, ...]]:
    rows = (row for batch in files.to_batches(BLOCK_ROWS) for row in batch.to_pylist())
    in_a_row = 0
    for *values, error in in_threads(reply, rows):
        in_a_row = in_a_row + 1 if isinstance(error, errors.FetchTimeout) else 0
        if in_a_row == MOST_IN_A_ROW or isinstance(error, errors.StorageUnusable):
            raise errors.NotRunnableError(f"storage: {error}") from error
        if error is not None:
            unanswered.add(_said(error))
        seen(1)
        yield tuple(values)


def _reply(question: Question, count: int, file: dict[str, Any]) -> tuple[Any, ...]:
    """Return size, etag, the answer's values, or as many nulls and why there are none."""
    uri, known = file["uri"], Info(file["uri"], file["size"], file["source_etag"])
    try:
        known = known if known.bytes is not None else storage.info(uri)
        return known.bytes, known.etag, *question(known), None
    except Exception as error:  # noqa: BLE001 (one file's failure is told, and is no reason to lose the others)
        error.add_note(uris.shown(uri))
        return known.bytes, known.etag, *[None] * count, error


def _said(error: Exception) -> str:
    uri, text = error.__notes__[-1], str(errors.describe(error, "probe")["error"]).strip().rpartition("\n")[2]
    return text if text.startswith(uri) else f"{uri}: {text}"
