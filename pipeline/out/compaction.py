"""Compaction of the journal: a run's many small files become few, and readers get the same rows.

A merged file has all rows of the files `first` to `last` of one run, in their order. Its name is `<run>-<last>-<first>.parquet`,
which sorts right before the last of them and after all others. A reader gets the same newest rows whether it reads the merged
file beside all of them, some or none, so the order in which files appear and disappear does not matter. Files that a merged file
covers are no longer read; the next call removes them. A reader that had listed such a file lists the journal again
(`retries.listing`).
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import storage
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.storage import Info, uris
from sep_batch.pipeline.storage.threads import in_threads

FEWEST = 16  # files to merge, at least
MOST_BYTES = 256 << 20  # total size of the files of one merged file, at most
GROUP_ROWS = 50_000
_NAME = re.compile(r"(?P<run>\d+-[0-9a-f]+)-(?P<last>\d+)(?:-(?P<first>\d+))?[.]parquet")


@dataclass(frozen=True)
class _File:
    uri: str
    bytes: int
    run: str
    first: int
    last: int

    @classmethod
    def of(cls, info: Info) -> _File:
        """Parse a file's name; a file with a name that no run gives counts as a run of its own."""
        name = _NAME.fullmatch(uris.name(info.uri))
        if name is None:
            return cls(info.uri, info.bytes, uris.name(info.uri), 0, 0)
        return cls(info.uri, info.bytes, name["run"], int(name["first"] or name["last"]), int(name["last"]))

    def covers(self, other: _File) -> bool:
        """Return whether all rows of another file of the run are in this one."""
        return self != other and self.first < self.last and self.first <= other.first and other.last <= self.last


def needed(infos: Iterable[Info]) -> list[str]:
    """Return the URIs of the journal files to read: those that no merged file covers."""
    return [file.uri for file in _sorted_out(infos)[0]]


def compact(folder: str, scratch: Path, check: Callable[[], None]) -> None:
    """Remove the files that earlier calls have merged, and merge small files.

    Args:
        folder: Folder of the journal.
        scratch: Local folder for merged files; on the journal's disk if the journal is on a disk.
        check: Called before each write; raises if the run may no longer write.
    """
    files, covered = _sorted_out(storage.find(folder))
    check()
    for _ in in_threads(storage.remove, [file.uri for file in covered]):
        pass
    path = scratch / "merged.parquet"
    for group in _groups(files):
        start = 0
        while len(group) - start >= FEWEST:
            alike = group[start : start + _merge(group[start:], path)]
            if len(alike) >= FEWEST:
                check()
                storage.put_file(f"{folder}/{alike[0].run}-{alike[-1].last:06d}-{alike[0].first:06d}.parquet", path)
            start += max(len(alike), 1)


def _sorted_out(infos: Iterable[Info]) -> tuple[list[_File], list[_File]]:
    runs: dict[str, list[_File]] = defaultdict(list)
    for info in infos:
        is_hidden = uris.name(info.uri).startswith(".")  # macOS and NFS make such files
        if info.uri.endswith(".parquet") and uris.parent(info.uri).endswith(f"/{layout.JOURNAL}") and not is_hidden:
            file = _File.of(info)
            runs[file.run].append(file)
    files, covered = list[_File](), list[_File]()
    for run_files in runs.values():
        merged = [file for file in run_files if file.first < file.last]
        for file in run_files:
            (covered if any(other.covers(file) for other in merged) else files).append(file)
    return files, covered


def _groups(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Yield groups of consecutive files of one run, each group small enough to be merged."""
    group, size = list[_File](), 0
    for file in files:
        size += file.bytes
        if group and ((group[-1].run, group[-1].last + 1) != (file.run, file.first) or size > MOST_BYTES):
            yield group
            group, size = [], file.bytes
        group.append(file)
    yield group


def _merge(group: Sequence[_File], path: Path) -> int:
    """Merge the first files of a group, up to one with other columns, into one file; return how many."""
    tables = in_threads(_read, group)
    if (first := next(tables)) is None:
        return 0
    count, waiting = 1, [first]
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        for table in tables:
            if table is None or not table.schema.equals(first.schema):
                break
            count += 1
            waiting.append(table)
            if sum(part.num_rows for part in waiting) >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    return count


def _read(file: _File) -> pa.Table | None:
    """Read a journal file; None if it is unreadable: opening the journal reports that."""
    try:
        return pyarrow.parquet.read_table(io.BytesIO(storage.read(file.uri)))
    except (pa.ArrowException, OSError):
        return None
