"""Rows of the index that an export is made of: those with status ok that satisfy a condition.

Only the seed and the ids decide their order. DuckDB holds them in a file, so that they take no memory however many they are.
The condition is outside text: it sees one table only, and DuckDB can reach neither files nor the network from it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import errors
from sep_batch.pipeline.export import columns
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.out.column_types import as_text, quoted
from sep_batch.pipeline.out.database import here
from sep_batch.pipeline.rows import JOURNAL
from sep_batch.pipeline.storage import uris

ROWS_AT_ONCE = 256
MEMORY = "1GB"  # DuckDB's limit; beyond it, DuckDB uses its file
NAME_CHARS = 55  # of a folder's name, up to four bytes each; file systems allow 255 bytes
_LOCKED = ("python_enable_replacements = false", "enable_external_access = false", "lock_configuration = true")
_FOLDER = r"trim(left(regexp_replace({}, '[^\p{{L}}\p{{N}} .,()&''_-]+', '_', 'g'), $chars), ' .')"
_IS_TEXT = "trim(coalesce(CAST({} AS VARCHAR), '')) <> ''"
_BOTH = "concat(trim(CAST(artist AS VARCHAR)), ' - ', trim(CAST(title AS VARCHAR)))"
_ARTIST_AND_TITLE = (
    f"CASE WHEN {_IS_TEXT.format('artist')} AND {_IS_TEXT.format('title')} THEN {_FOLDER.format(_BOTH)} ELSE id END"
)
_BROKEN = (  # conditions of rows that no run publishes
    ("GROUP BY id HAVING count(*) > 1", "has more than one row"),
    ("WHERE status = 'ok' AND (audio_s IS NULL OR coalesce(len(stems), 0) = 0)", "is ok, but has no length or no stems"),
)
_ONE_OF_A_KIND = (  # no name has brackets, so a suffix in brackets makes a name unique
    "CASE WHEN count(*) OVER (PARTITION BY lower(name)) > 1 THEN concat(name, ' [', left(md5(id), 16), ']') ELSE name END"
)


@dataclass(frozen=True)
class Query:
    """Rows to select, and their order.

    Attributes:
        where: An SQL condition over the index's columns.
        group_by: A column of the index.
        seed: Seed of the order.
        limit: Number of rows at most, the first in that order.
        offset_s: Beginning of separation in the source, in seconds, for rows that have none of their own.
        reserved: Names of the dataset's own columns, in lower case: columns of the manifest get others.
    """

    where: str | None = None
    group_by: str | None = None
    seed: int = 0
    limit: int | None = None
    offset_s: float = 0.0
    reserved: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Selection:
    """The selected rows, in an open database.

    Attributes:
        database: Connection whose table `selected` has the rows.
        extra: The manifest's own columns, by the names that the dataset gives them.
        renamed: Name in the dataset by name in the index, for columns whose two names differ.
        group_by: The column whose values are in one split only, as the index spells it.
    """

    database: duckdb.DuckDBPyConnection
    extra: pa.Schema
    renamed: Mapping[str, str] = field(default_factory=dict)
    group_by: str | None = None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in their order."""
        relation = self.database.cursor().sql("SELECT * EXCLUDE place FROM selected ORDER BY place")
        for batch in relation.to_arrow_reader(ROWS_AT_ONCE):
            yield from batch.to_pylist()

    def count(self) -> int:
        """Return the number of rows."""
        return int(self.database.sql("SELECT count(*) FROM selected").fetchall()[0][0])

    def in_index(self) -> tuple[int, int]:
        """Return the number of tracks in the index, and of those that are ok."""
        counted = "SELECT count(*), count(*) FILTER (status = 'ok') FROM tracks"
        tracks, ok = self.database.sql(counted).fetchall()[0]
        return int(tracks), int(ok)

    def unanalysed(self) -> int:
        """Return the number of rows without activity."""
        stems = self.database.sql("SELECT stems FROM selected LIMIT 0").types[0]
        if "active_regions" not in str(stems):
            return self.count()
        silent = "len(list_filter(stems, lambda stem: stem.active_regions IS NULL)) > 0"
        return int(self.database.sql(f"SELECT count(*) FROM selected WHERE {silent}").fetchall()[0][0])  # noqa: S608 (constants)

    def made_with(self) -> list[tuple[str, str, int]]:
        """Return each model and weights_sha256 of the rows, with the number of rows."""
        made = "SELECT model, weights_sha256, count(*) FROM selected GROUP BY ALL ORDER BY ALL"
        return [tuple(row) for row in self.database.sql(made).fetchall()]

    def runs(self) -> list[str]:
        """Return the names of the rows' runs."""
        return [name for (name,) in self.database.sql("SELECT DISTINCT run_id FROM selected ORDER BY ALL").fetchall()]


@contextmanager
def selected(out: str, query: Query) -> Iterator[Selection]:
    """Select rows of an index until the block ends.

    Raises:
        UsageError: A column is missing, or DuckDB rejects the condition.
        NotFound: OUT has no index.
    """
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(f"{folder}/rows", config=_config(folder)) as database:
        path = here(f"{out}/{layout.INDEX_FILE}", Path(folder)).removeprefix("file://")
        if not Path(path).exists():
            raise errors.NotFound(f"{out}/{layout.INDEX_FILE}: not found; the first run in OUT publishes it")
        schema = pyarrow.parquet.read_schema(path)
        _refuse_foreign(schema, f"{out}/{layout.INDEX_FILE}")
        database.sql("SET TimeZone = 'UTC'")
        database.execute("CREATE TABLE tracks AS FROM read_parquet(?)", [path])
        _refuse_broken(database, f"{out}/{layout.INDEX_FILE}")
        for setting in _LOCKED:
            database.sql(f"SET {setting}")
        renamed = columns.renamed([name for name in schema.names if name not in JOURNAL.names], query.reserved)
        group_by = _group_by(query.group_by, schema)
        group = as_text(quoted(group_by), schema.field(group_by).type) if group_by else "NULL::VARCHAR"
        _select(database, query, renamed, group)
        kinds = database.sql("SELECT extra FROM selected LIMIT 0").to_arrow_table().schema.field("extra").type if renamed else []
        yield Selection(database, pa.schema(list(kinds)), {old: new for old, new in renamed.items() if old != new}, group_by)


def _refuse_foreign(schema: pa.Schema, uri: str) -> None:
    """Refuse an index that no run published.

    Raises:
        NotRunnableError: A column that an export needs is missing, or is of another type.
    """
    for name in (
        "id",
        "uri",
        "status",
        "audio_s",
        "source_bytes",
        "source_etag",
        "offset_s",
        "model",
        "weights_sha256",
        "run_id",
        "stems",
    ):
        kind = schema.field(name).type if name in schema.names else None
        expected = JOURNAL.field(name).type
        is_alike = pa.types.is_list(kind) if kind and name == "stems" else kind == expected
        if not is_alike:
            raise errors.NotRunnableError(
                f"{uri}: not an index that a run publishes: column {name} is {kind or 'missing'}, expected {expected}; "
                "sep-batch verify OUT --repair publishes it again"
            )


def _refuse_broken(database: duckdb.DuckDBPyConnection, uri: str) -> None:
    """Refuse an index whose rows no run published: shards would hold one excerpt twice, or none could be laid out.

    Raises:
        NotRunnableError: A row is invalid; the message has its id.
    """
    for condition, problem in _BROKEN:
        broken_id = database.sql(f"SELECT min(id) FROM (SELECT id FROM tracks {condition})").fetchall()[0][0]  # noqa: S608 (constants)
        if broken_id is not None:
            raise errors.NotRunnableError(
                f"{uri}: not an index that a run publishes: track {uris.printable(broken_id)} {problem}; "
                "sep-batch verify OUT --repair publishes it again"
            )


def _config(folder: str) -> dict[str, Any]:
    return {"temp_directory": f"{folder}/spilled", "memory_limit": MEMORY}


def _group_by(name: str | None, schema: pa.Schema) -> str | None:
    """Return the index's spelling of a column that is named in any case; None if none is named.

    Raises:
        UsageError: The index has no such column.
    """
    if name is None:
        return None
    column: str | None = next((spelling for spelling in schema.names if spelling.lower() == name.lower()), None)
    if column is None:
        raise errors.UsageError(f"--group-by {name}: no column of the index; it has {', '.join(schema.names)}")
    return column


def _select(database: duckdb.DuckDBPyConnection, query: Query, renamed: Mapping[str, str], group: str) -> None:
    """Create the table `selected`; `group` is SQL for a track's group as text, null if it has none."""
    selected = [
        *("id", "uri", "source_bytes", "source_etag", "audio_s", "stems", "model", "weights_sha256", "run_id"),
        "coalesce(offset_s, $offset_s) AS offset_s",
        f'{group} AS "group"',
        f"{_ARTIST_AND_TITLE if {'artist', 'title'} <= set(map(str.lower, renamed)) else 'id'} AS name",
        "row_number() OVER (ORDER BY md5(concat($seed, ' ', id)), id) AS place",
    ]
    names = {name for name, *_ in database.sql("DESCRIBE tracks").fetchall()}
    selected += [name if name in names else f"NULL::INTEGER AS {name}" for name in ("source_stream", "decode_rules")]
    if renamed:
        packed = (f"{quoted(new)} := {quoted(old)}" for old, new in renamed.items())
        selected.append(f"struct_pack({', '.join(packed)}) AS extra")
    condition = "status = 'ok'" + (f" AND (\n{query.where}\n)" if query.where else "")
    # in a query of its own, the condition sees the index's columns alone, not the names given to selected values
    drawn = f"SELECT {', '.join(selected)} FROM (FROM tracks WHERE {condition})"  # noqa: S608 (see above)
    named = f"SELECT * REPLACE ({_ONE_OF_A_KIND} AS name) FROM (\n{drawn}\n) WHERE place <= $limit"  # noqa: S608
    create = f"CREATE TABLE selected AS {named}"
    values = {"offset_s": query.offset_s, "seed": query.seed, "limit": query.limit or 1 << 62}
    values |= {"chars": NAME_CHARS} if "$chars" in create else {}  # DuckDB rejects unused values
    try:
        if query.where:
            duckdb.SQLExpression(query.where)  # it is one expression by itself: no bracket of it closes those around it
        database.execute(create, values)
    except duckdb.Error as error:
        if query.where is None:
            raise
        raise errors.UsageError(f"--where {query.where}: {errors.first_line(error)}") from error
