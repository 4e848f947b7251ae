"""The plan: the manifest's tracks that are left to do, with reasons, written for the flow in files of some blocks each.

DuckDB, which spills to disk, joins the tracks with the journal. Two numbers a track are kept of the result: no catalog becomes
one Python object a track.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import storage
from sep_batch.pipeline.manifest.ids import made_id
from sep_batch.pipeline.out.database import JournalDatabase
from sep_batch.pipeline.rows import PROBLEM
from sep_batch.pipeline.storage.threads import in_threads

MAX_ATTEMPTS = 3  # of a track with a transient failure, over all runs
PLAN_BLOCK_ROWS = 64
FEWEST_FILES = 1_000  # if there are so many blocks: up to here each block is a file, so that all are read at once
MOST_BLOCKS_PER_FILE = 64  # 1 MB; each file is a read task: Ray Data plans 150,000 in minutes, 2,500 in no time
_FILES_AT_ONCE = 8  # written or read by the driver; eight times as many are in memory
ROWS_AT_ONCE = 65_536  # of a plan, handled at once
Retry = Literal["none", "transient", "suspect", "all"]
Reason = Literal[
    "new",
    "source_changed",
    "settings_differ",
    "failed_before",
    "deleted",
    "replaced",
    "suspect",
    "restored",
    "bad_row",
    "done",
    "done_suspect",
    "known_failed",
    "withdrawn",
]

_REASONS: tuple[Reason, ...] = get_args(Reason)
_BAD_ROW = _REASONS.index("bad_row")  # the flow takes the codes below
_SETTLED = _REASONS.index("done")  # codes from here on need no work
# Rows of the journal, named `was`, that are ok, were decoded before decoding rules had numbers, and may decode differently today:
# more than two channels, skipped packets, and Ogg, whose chains were not read.
SUSPECT = """status = 'ok' AND decode_rules IS NULL AND (source_channels > 2 OR skipped_packets > 0
    OR source_codec IN ('vorbis', 'opus', 'speex') OR regexp_matches(lower(was.uri), '[.](og[agx]|opus|spx)([?#].*)?$'))"""
# Failed rows of versions that blamed the track if a package was missing on the machine; today that ends the run.
_PACKAGE_MISSED = (
    """error_class = 'bad_uri' AND regexp_matches(error, '[Ii]nstall (gcsfs|adlfs) to access [A-Z][A-Za-z0-9 ]+$')"""
)
_SOURCE = ("uri", "offset_s", "duration_s", "source_etag")
# On a disk an etag is the modification time and the size. Older versions left out the size: older rows have it in a column of its
# own, and older lists may lack it.
_SAME_ETAG = """was.source_etag = is_now.source_etag
    OR is_now.source_etag = was.source_etag || coalesce(' ' || was.source_bytes, '')
    OR was.source_etag = is_now.source_etag || ' ' || was.source_bytes"""
_PAST = f"""SELECT place, list_position($reasons, reason) - 1 AS code, if(reason = 'failed_before', attempts, 0) AS attempts
    FROM (
    SELECT place, coalesce(was.attempts, 1) AS attempts, CASE
    WHEN status IN ('deleted', 'replaced') THEN status
    WHEN status = 'withdrawn' THEN if(list_contains($restored::VARCHAR[], id), 'restored', 'withdrawn')
    WHEN was.offset_s IS DISTINCT FROM is_now.offset_s OR was.duration_s IS DISTINCT FROM is_now.duration_s
        THEN 'source_changed'
    WHEN was.uri <> is_now.uri AND ({_SAME_ETAG}) IS NOT TRUE THEN 'source_changed'
    WHEN is_now.source_etag IS NOT NULL AND ({_SAME_ETAG}) IS NOT TRUE THEN 'source_changed'
    WHEN settings_sha256 IS DISTINCT FROM $settings THEN 'settings_differ'
    WHEN {SUSPECT} THEN if($retry = 'suspect', 'suspect', 'done_suspect')
    WHEN status = 'ok' THEN 'done'
    WHEN $retry = 'all' OR ($retry IN ('transient', 'suspect') AND (transient OR {_PACKAGE_MISSED})
        AND coalesce(was.attempts, 1) < $most)
        THEN 'failed_before'
    ELSE 'known_failed' END AS reason
    FROM is_now JOIN newest AS was USING (id))"""  # noqa: S608 (constants)
_VANISHED = """SELECT id FROM newest ANTI JOIN listed USING (uri)
    WHERE status = 'ok' AND list_bool_or([starts_with(newest.uri, path) FOR path IN $below::VARCHAR[]])
    AND NOT list_bool_or([starts_with(newest.uri, path) FOR path IN $unread::VARCHAR[]]) IS TRUE ORDER BY id"""
_WAS = "SELECT uri, offset_s, duration_s, source_etag FROM newest WHERE id = $id"
_OLD_IDS = """SELECT is_now.place, is_now.id AS new_id, is_now.uri, is_now.offset_s, is_now.duration_s,
    arg_max(was.id, was.finished_at) AS id
    FROM (SELECT * FROM is_now ANTI JOIN newest USING (id)) AS is_now
    JOIN (SELECT * FROM newest ANTI JOIN is_now USING (id)) AS was ON was.uri = is_now.uri
        AND was.offset_s IS NOT DISTINCT FROM is_now.offset_s AND was.duration_s IS NOT DISTINCT FROM is_now.duration_s
    GROUP BY ALL"""
_OF_ANOTHER = f"""SELECT is_now.id, is_now.uri, was.uri FROM is_now JOIN newest AS was USING (id)
    WHERE was.status = 'ok' AND was.uri <> is_now.uri AND ({_SAME_ETAG}) IS NOT TRUE ORDER BY id"""  # noqa: S608 (constants)


@dataclass(frozen=True)
class Plan:
    """The tracks that are left to do, and the reason why each track of the manifest is or is not.

    Attributes:
        listed: The manifest's tracks.
        codes: Reason of each track: its number among the values of `Reason`.
        attempts: Tries so far of each track that failed and is retried; 0 for others.
    """

    listed: pa.Table
    codes: np.ndarray
    attempts: np.ndarray

    @property
    def reasons(self) -> list[Reason]:
        """Reason of each track, in the manifest's order."""
        return [_REASONS[code] for code in self.codes]

    @property
    def counts(self) -> Counter[Reason]:
        """Number of tracks by reason."""
        counts = np.bincount(self.codes, minlength=len(_REASONS)).tolist()
        return Counter({reason: count for reason, count in zip(_REASONS, counts, strict=True) if count})

    @property
    def todo(self) -> int:
        """Number of tracks left to do."""
        return int((self.codes < _BAD_ROW).sum())

    @property
    def bad_rows(self) -> pa.Table:
        """Bad rows of the manifest that the journal does not settle, `problem` among their columns."""
        return self.listed.filter(pa.array(self.codes == _BAD_ROW))

    @property
    def tracks(self) -> pa.Table:
        """The tracks left to do, in the manifest's order; `attempts` counts the tries so far."""
        return pa.concat_tables(self.blocks()) if self.todo else self.listed.slice(0, 0)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one column of the tracks left to do; not `attempts`."""
        return self.listed.column(name).filter(pa.array(self.codes < _BAD_ROW))

    def blocks(self) -> Iterator[pa.Table]:
        """Yield the tracks left to do, some thousands at a time."""
        listed = self.listed.drop_columns([name for name in (PROBLEM,) if name in self.listed.column_names])
        column = listed.column_names.index("attempts")
        for start in range(0, listed.num_rows, ROWS_AT_ONCE):
            near = slice(start, start + ROWS_AT_ONCE)
            block, is_left = listed.slice(start, ROWS_AT_ONCE), self.codes[near] < _BAD_ROW
            block = block.set_column(column, block.schema.field(column), pa.array(self.attempts[near]))
            yield block if is_left.all() else block.filter(pa.array(is_left))  # if all are left, nothing is copied

    def first(self, reason: Reason) -> dict[str, Any]:
        """Return the first track with a reason, by column."""
        row: dict[str, Any] = self.listed.slice(int(np.argmax(self.codes == _REASONS.index(reason))), 1).to_pylist()[0]
        return row


def make_plan(
    tracks: pa.Table, journal: JournalDatabase, settings_sha256: str, retry: Retry, restored: Collection[str] = ()
) -> Plan:
    """Return the plan: tracks that are done or withdrawn, or failed and are not retried, are left out.

    Args:
        tracks: Tracks of the manifest, with ids.
        journal: Journal of OUT.
        settings_sha256: SHA-256 of the current settings.
        retry: Failures to retry; `suspect` retries transient ones, and tracks that are done but suspect.
        restored: Ids of withdrawn tracks to separate all the same.
    """
    codes, attempts = np.zeros(tracks.num_rows, np.uint8), np.zeros(tracks.num_rows, np.int32)
    if journal.files:  # else a million tracks need not be copied to be joined with nothing
        tracks = _with_old_ids(tracks, journal)
        _register(tracks, journal)
        parameters = {"reasons": list(_REASONS), "settings": settings_sha256, "retry": retry, "most": MAX_ATTEMPTS}
        parameters |= {"restored": list(restored)}
        for batch in journal.database.sql(_PAST, params=parameters).to_arrow_reader(ROWS_AT_ONCE):
            positions = batch["place"].to_numpy()
            codes[positions], attempts[positions] = batch["code"], batch["attempts"]
        journal.database.unregister("is_now")
    if PROBLEM in tracks.column_names:
        codes[tracks.column(PROBLEM).is_valid().to_numpy() & (codes < _SETTLED)] = _BAD_ROW
    return Plan(tracks, codes, attempts)


def _register(tracks: pa.Table, journal: JournalDatabase) -> None:
    positions = pa.array(np.arange(tracks.num_rows))
    journal.database.register("is_now", tracks.select(["id", *_SOURCE]).append_column("place", positions))


def _with_old_ids(tracks: pa.Table, journal: JournalDatabase) -> pa.Table:
    """Replace ids made here by those that the journal has for the same sources: earlier versions made other ids."""
    _register(tracks, journal)
    ids: np.ndarray | None = None
    for batch in journal.database.sql(_OLD_IDS).to_arrow_reader(ROWS_AT_ONCE):
        for row in batch.to_pylist():
            if row["new_id"] == made_id(row["uri"], row["offset_s"], row["duration_s"]):
                ids = tracks.column("id").to_numpy(zero_copy_only=False) if ids is None else ids
                ids[row["place"]] = row["id"]
    journal.database.unregister("is_now")
    if ids is None:
        return tracks
    return tracks.set_column(tracks.schema.get_field_index("id"), "id", pa.array(ids, pa.string()))


def of_another(plan: Plan, journal: JournalDatabase) -> list[tuple[str, str, str]]:
    """Return ids that have another source in the journal than in the manifest, with both URIs, the manifest's first.

    Args:
        plan: Plan of a manifest.
        journal: Journal of OUT.
    """
    if not journal.files:
        return []
    _register(plan.listed, journal)
    rows = [(id, uri, was) for id, uri, was in journal.database.execute(_OF_ANOTHER).fetchall()]
    journal.database.unregister("is_now")
    return rows


def changes(source: Mapping[str, Any], journal: JournalDatabase) -> list[str]:
    """Return the names of the fields in which a source differs from its newest row; an unknown etag does not differ."""
    was = journal.database.execute(_WAS, {"id": source["id"]}).fetchall()[0]
    pairs = zip(_SOURCE, was, strict=True)
    return [name for name, before in pairs if source[name] != before and (name, source[name]) != ("source_etag", None)]


def vanished(tracks: pa.Table, folders: Sequence[str], unread: Sequence[str], journal: JournalDatabase) -> list[str]:
    """Return the ids of separated tracks whose sources were below some folders and are no longer in their listing.

    Args:
        tracks: Tracks of the listing.
        folders: Folders that were listed.
        unread: Folders below them that could not be read: their tracks may still be there, and are not returned.
        journal: Journal of OUT.
    """
    if not folders or not journal.files:
        return []
    journal.database.register("listed", tracks.select(["uri"]))
    below = {"below": [f"{folder.rstrip('/')}/" for folder in folders], "unread": [f"{path}/" for path in unread]}
    return [id for (id,) in journal.database.execute(_VANISHED, below).fetchall()]


def write_plan(blocks: Iterable[pa.Table], put: Callable[[str, bytes], None], folder: str, *, rows_per_file: int) -> list[str]:
    """Write a plan as Parquet, several files at once, since each waits for storage.

    Args:
        blocks: Tracks that are left to do, in tables of any size.
        put: Called with each file's URI and content, in threads.
        folder: Folder of the files.
        rows_per_file: Tracks per file; the last file may have fewer.

    Returns:
        URIs of the files, in the manifest's order.
    """
    files = list[str]()

    def write(numbered: tuple[int, pa.Table]) -> str:
        number, block = numbered
        out = io.BytesIO()
        pyarrow.parquet.write_table(block, out)
        put(uri := f"{folder}/{number:06d}.parquet", out.getvalue())
        return uri

    files += in_threads(write, enumerate(_even(blocks, rows_per_file)), threads=_FILES_AT_ONCE)
    return files


def _even(blocks: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield tables of `rows` rows each; the last may have fewer."""
    left: pa.Table | None = None
    for block in blocks:
        left = pa.concat_tables([left, block]) if left else block
        whole = left.num_rows - left.num_rows % rows
        yield from (left.slice(start, rows) for start in range(0, whole, rows))
        left = left.slice(whole)
    if left:
        yield left


def read_plan(uri: str) -> pa.Table:
    """Read one file of a plan."""
    return pyarrow.parquet.read_table(io.BytesIO(storage.read(uri)))


def read_plans(uris: Iterable[str]) -> Generator[pa.Table]:
    """Read a plan's files, in their order, several at once."""
    return in_threads(read_plan, uris, threads=_FILES_AT_ONCE)


def rows_per_block(todo: int, analyze_actors: int) -> int:
    """Return the number of tracks per block of the plan, small enough that every actor gets blocks."""
    return max(1, min(PLAN_BLOCK_ROWS, math.ceil(todo / (4 * analyze_actors))))


def blocks_per_file(blocks: int) -> int:
    """Return the number of blocks per file of the plan."""
    return max(1, min(MOST_BLOCKS_PER_FILE, math.ceil(blocks / FEWEST_FILES)))
