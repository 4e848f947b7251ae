"""`failures`: failed tracks of an OUT by class and message, with advice, and a manifest of them to run again.

from sep_batch.jobs.failures import run_failures
report = run_failures("songs.stems", to="failures.parquet")
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.failures.advice import ADVICE
from sep_batch.jobs.failures.report import Group, Report
from sep_batch.jobs.setup import setting_flags
from sep_batch.jobs.setup.outs import last_run, refuse_no_out
from sep_batch.pipeline import errors as failures
from sep_batch.pipeline import storage
from sep_batch.pipeline.manifest import lists
from sep_batch.pipeline.out import database
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.out.plan import MAX_ATTEMPTS
from sep_batch.pipeline.rows import JOURNAL
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing

_FAILED = """CREATE TABLE failed AS SELECT * EXCLUDE (_sep_file, error),
    trim(regexp_replace(coalesce(error, ''), '\\s+', ' ', 'g')) AS error,
    string_split(trim(coalesce(error, '')), chr(10))[-1] AS last_line
    FROM newest WHERE status = 'failed' AND ($class IS NULL OR error_class = $class)"""
_TRACKS = f"SELECT count(*), count(*) FILTER (status = 'ok' AND ({database.IS_DAMAGED})) FROM newest"  # noqa: S608 (no user input)
_ALIKE = (  # patterns of the parts that differ between messages of one kind, and their replacements
    (r"([a-z0-9+]+://|(^|[\s(''\"])/)[^\s''\"]*[^\s''\":,)]", r"\2…"),  # URIs and paths
    (r"looks like text: .*; first bytes", "looks like text; first bytes"),
    (r"\b[0-9a-f]{2}( [0-9a-f]{2})+\b", "N"),  # bytes
    (r"\b[0-9a-fA-F]{8,}\b|\b[0-9]+", "N"),  # digests and numbers
    (r"N([.,:-]N)+", "N"),
)
_GROUPS = """SELECT error_class, error_stage, coalesce(transient, false) AS transient, alike, count(*) AS tracks,
    count(*) FILTER (transient AND coalesce(attempts, 1) < $attempts), min(id), arg_min(uri, id), arg_min(error, id)
    FROM (SELECT *, {alike} AS alike FROM failed)
    GROUP BY ALL ORDER BY tracks DESC, error_class, alike"""
_WHOLE = """SELECT * EXCLUDE (_sep_file, _sep_place) FROM whole_newest
    WHERE _sep_place IN (SELECT _sep_place FROM failed) ORDER BY id"""
_COLUMNS = ("uri", "id", "offset_s", "duration_s", "source_etag", "error_class", "error")
_SUPERSEDED = ("manifest_error_class", "manifest_error")  # names of the last two columns in the index of a run of such a manifest


def run_failures(out: str, *, error_class: str | None = None, to: str | None = None, reach: str = "") -> Report:
    """Return the failed tracks of an OUT, and the next command.

    Args:
        out: OUT, a path or URI.
        error_class: Class of failures to return; None is all.
        to: File for a manifest of the failed tracks: .parquet, .csv or .jsonl.
        reach: Flags that a command needs to reach OUT, as `jobs.run.report.reach` returns them.

    Raises:
        UsageError: There is no such class, or the manifest cannot be written in this format or place.
        NotRunnableError: No run wrote to this place, its storage or journal cannot be read, or the manifest cannot be stored.
    """
    if error_class is not None and error_class not in ADVICE:
        raise failures.UsageError(f"--class {error_class}: expected one of {', '.join(ADVICE)}")
    try:
        out = uris.target(out)
        refuse_no_out(out)
        if to is not None:
            _refuse_target(to, out)
        run_json = last_run(out)
        tracks, damaged, groups, table = _failed(out, error_class, with_manifest=to is not None)
    except failures.TrackError as error:
        raise failures.NotRunnableError(f"OUT {error}") from error
    if to and table is not None:
        _write(table, to)
    failed = sum(group.tracks for group in groups)
    next_command = _next(out, run_json, error_class, to) + reach if failed else None
    return Report(out, tracks, failed, groups, to, damaged, next_command)


def _next(out: str, run_json: dict[str, Any], error_class: str | None, to: str | None) -> str:
    """Return the command that writes a manifest of the failed tracks, or, if it is written, the one that runs it in OUT."""
    if to is None:
        only = ["--class", error_class] if error_class else []
        return shlex.join(["sep-batch", "failures", out, *only, "--to", "failures.parquet"])
    own = [*setting_flags.words(run_json), *setting_flags.source_words(run_json)]
    return shlex.join(["sep-batch", "run", to, "--out", out, *own, "--retry", "all"])


@listing
def _failed(out: str, error_class: str | None, *, with_manifest: bool) -> tuple[int, int, list[Group], pa.Table | None]:
    """Return the number of all tracks, the number of damaged ok tracks, the groups of failed tracks, and their manifest."""
    with database.opened(out) as journal:
        sql = journal.database.execute
        sql(_FAILED, {"class": error_class})
        tracks, damaged = sql(_TRACKS).fetchall()[0]
        query = _GROUPS.format(alike=_alike(out))
        groups = [Group(*row) for row in sql(query, {"attempts": MAX_ATTEMPTS}).fetchall()]
        return tracks, damaged, groups, _manifest(journal) if with_manifest else None


def _alike(out: str) -> str:
    """Return SQL for a message without the parts that only its track has; messages with the same result form a group."""
    text = f"replace(replace(if(error_class = 'bug', last_line, error), uri, '/…'), '{_escaped(out)}', '/…')"
    for pattern, replacement in _ALIKE:
        text = f"regexp_replace({text}, '{pattern}', '{replacement}', 'g')"
    return f"if(contains(error, id), regexp_replace({text}, '\\b' || replace(id, '.', '\\.') || '\\b', '…', 'g'), {text})"


def _escaped(text: str) -> str:
    return text.replace("'", "''")


def _manifest(journal: JournalDatabase) -> pa.Table:
    """Return a manifest of the failed tracks: source, id and error of each, and the extra columns of its own manifest."""
    table = journal.database.sql(_WHOLE).to_arrow_table()
    errors = journal.database.sql("SELECT error FROM failed ORDER BY id").to_arrow_table()
    own = [name for name in table.column_names if name not in (*JOURNAL.names, *_SUPERSEDED)]
    return table.set_column(table.column_names.index("error"), "error", errors.column("error")).select([*_COLUMNS, *own])


@contextmanager
def _target_errors() -> Iterator[None]:
    """Name `--to` in errors about the manifest's path."""
    try:
        yield
    except (failures.UsageError, failures.NotRunnableError) as error:
        raise type(error)(str(error).replace("--out", "--to", 1)) from error
    except failures.TrackError as error:
        raise failures.NotRunnableError(f"--to {error}") from error


def _refuse_target(to: str, out: str) -> None:
    with _target_errors():
        target = uris.target(to)
        lists.refuse_target(to)
        content = storage.read(target) if storage.exists(target) else b""
    if f"{target}/".startswith(f"{out}/"):
        raise failures.UsageError(f"--to {to}: lies in OUT; choose another path")
    if content and b"error_class" not in content:  # this column's name is in files of all three formats
        raise failures.UsageError(f"--to {to}: exists, and this command did not write it; choose another path")


def _write(table: pa.Table, to: str) -> None:
    """Write a manifest; refuse columns that its format cannot hold."""
    texts = (field.name for field in table.schema if pa.types.is_string(field.type))
    broken = next((name for name in texts if _has_lines(table.column(name))), None)
    if broken and to.lower().endswith(".csv"):
        raise failures.UsageError(f"--to {to}: column {broken} has texts of several lines, which CSV cannot hold; use .parquet")
    with _target_errors():
        lists.write(table, to)


def _has_lines(column: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring_regex(column, "[\r\n]")).as_py())
