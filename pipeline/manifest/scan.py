"""Making of a manifest: the audio below folders, prefixes and globs, and the files of lists and inventories, as one table.

A file's `source_etag` comes from the listing that names it, and is the etag that a run sees. So a run of a manifest made again
separates changed files again, and no others.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest import formats, lists, s3_inventory
from sep_batch.pipeline.manifest.audio_files import AudioFiles
from sep_batch.pipeline.manifest.ids import made_id
from sep_batch.pipeline.manifest.lists import Reading
from sep_batch.pipeline.manifest.patterns import Patterns
from sep_batch.pipeline.storage import Info, uris

LISTED = pa.schema([("uri", pa.string()), ("id", pa.string()), ("size", pa.int64()), ("source_etag", pa.string())])
BLOCK_ROWS = 1000  # a page of S3's listing
EXCERPT = ("offset_s", "duration_s")  # with the URI, the columns that identify a track of a list
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Scanned:
    """Result of a scan.

    Attributes:
        table: LISTED's columns, those of `EXCERPT` if a list has them, and further columns of lists.
        warnings: Warnings, a line each.
    """

    table: pa.Table
    warnings: tuple[str, ...] = ()


def scan(
    sources: Sequence[str],
    *,
    limit: int | None = None,
    how: Reading = Reading(),  # noqa: B008 (frozen)
    count_files: Callable[[int], None] = lambda _count: None,
) -> Scanned:
    """List the audio of folders, prefixes, globs, files, lists and inventories.

    Args:
        sources: Paths or URIs.
        limit: Number of files to keep, from the first on; None keeps all.
        how: Options for reading lists.
        count_files: Called with the number of files found since the last call.

    Returns:
        Files in the order of the sources, each sorted, lists in their own order; a file of several sources is there once.

    Raises:
        ManifestError: A source is missing or holds no audio, or two sources give one id to different files.
    """
    warnings = list[str]()
    kept = list(_first(_blocks(sources, how, warnings), limit, count_files))
    return Scanned(_whole(_once(kept) if len(sources) > 1 else kept), tuple(warnings))


def _first(blocks: Iterator[pa.Table], limit: int | None, count_files: Callable[[int], None]) -> Iterator[pa.Table]:
    left = limit
    for block in blocks:
        kept = block if left is None else block.slice(0, left)
        count_files(kept.num_rows)
        yield kept
        if left is not None and not (left := left - kept.num_rows):
            return


def _blocks(sources: Sequence[str], how: Reading, warnings: list[str]) -> Iterator[pa.Table]:
    """Yield the files of all sources, a block at a time.

    Raises:
        ManifestError: A source is missing, or holds no audio.
    """
    patterns = Patterns(how.include, how.exclude)
    for source in sources:
        uri = uris.absolute(source)
        try:
            uris.check(uri, allow_http=how.allow_http)
            is_folder = storage.is_folder(uri)
            is_inventory = not is_folder and s3_inventory.is_inventory(uri)
            if formats.extension_of(uri) and not (is_folder or is_inventory):
                yield from _of_list(uri, how, warnings)
            else:
                yield from _of_audio(uri, how, patterns, warnings, is_folder=is_folder, is_inventory=is_inventory)
        except errors.TrackError as error:
            raise errors.ManifestError(f"source {error}") from error
    warnings += patterns.unmatched()


def _of_list(uri: str, how: Reading, warnings: list[str]) -> Iterator[pa.Table]:
    table, notices = lists.read(uri, how)
    warnings += [f"{uris.shown(uri)}: {warning}" for warning in notices]
    yield table


def _of_audio(
    uri: str, how: Reading, patterns: Patterns, warnings: list[str], *, is_folder: bool, is_inventory: bool
) -> Iterator[pa.Table]:
    """Yield the audio of a folder, prefix, glob, inventory or file; if a folder has none, the files in its manifest files."""
    files, is_empty = AudioFiles(uri, patterns), True
    if is_inventory:
        blocks = s3_inventory.read(uri, files)
    elif is_folder:
        files = AudioFiles(uri, patterns, with_manifests=True)
        blocks = _batched(files.below())
    elif (wild := _WILD.search(uri)) and not storage.exists(uri):
        files = AudioFiles(uri[: wild.start()].rpartition("/")[0], patterns, is_whole=False)
        blocks = _batched(files.of(storage.expand(uri)))
    else:
        patterns.refuse(f"{uris.shown(uri)} is one file")
        blocks = iter([[storage.info(uri)]])
    for block in blocks:
        is_empty = is_empty and not block
        yield _table(block)
    if not is_empty:
        warnings += [f"{uris.shown(uri)}: {warning}" for warning in files.warnings()]
    elif files.manifests:
        yield from _of_list(uri, how, warnings)
    else:
        raise errors.ManifestError(files.nothing(uri))


def _batched(listed: Iterable[Info]) -> Iterator[list[Info]]:
    infos = iter(listed)
    while batch := list(itertools.islice(infos, BLOCK_ROWS)):
        yield batch


def _table(infos: list[Info]) -> pa.Table:
    columns = (
        [info.uri for info in infos],
        [made_id(uris.absolute(info.uri), None, None) for info in infos],
        [info.bytes for info in infos],
        [info.etag for info in infos],
    )
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, LISTED, strict=True)], schema=LISTED)


def _once(blocks: list[pa.Table]) -> list[pa.Table]:
    """Leave out rows that repeat an earlier one.

    Raises:
        ManifestError: Two of the rows that are left have one id.
    """
    table = _joined(blocks)
    keys = ["uri", *(name for name in EXCERPT if name in table.column_names)]
    numbered = table.select(keys).append_column("_sep_place", pa.array(np.arange(table.num_rows)))
    first = numbered.group_by(keys, use_threads=False).aggregate([("_sep_place", "min")]).column("_sep_place_min")
    kept = table.take(first.take(pc.sort_indices(first)))
    ids = pc.value_counts(pc.utf8_lower(kept.column("id")))
    if doubled := ids.filter(pc.greater(ids.field("counts"), 1)).field("values").slice(0, 20).to_pylist():
        raise errors.ManifestError(f"the same id given to different files by two sources: {', '.join(doubled)}")
    return [kept]


def _joined(blocks: list[pa.Table]) -> pa.Table:
    try:
        return pa.concat_tables(blocks, promote_options="permissive")
    except pa.ArrowException as error:
        raise errors.ManifestError(f"the lists' columns do not fit together: {uris.printable(str(error))}") from error


def _whole(blocks: list[pa.Table]) -> pa.Table:
    """Return one table, LISTED's columns first, without offsets and durations if there are none."""
    table = _joined(blocks).combine_chunks()
    further = [name for name in table.column_names if name not in LISTED.names]
    empty = {name for name in EXCERPT if name in further and table.column(name).null_count == table.num_rows}
    return table.select([*LISTED.names, *(name for name in further if name not in empty)])
