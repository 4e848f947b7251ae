"""Compaction of the journal: a run's many small files become few, and no reader can tell.

A merged file has all rows of the files `first` to `last` of one run, in their order; its name is `<run>-<last>-<first>.parquet`,
right before the last of them, after all others. Who reads it beside all of them, some or none finds the same newest rows: nothing
hangs on the order in which files come and go. What a merged file covers is not read any more, and is removed by the next call
only. Who had listed such a file before lists the journal anew (`retries.listing`).
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

FEWEST = 16  # files that are worth a merged one
MOST_BYTES = 256 << 20  # of the files that one is made of
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
        """Read a file's name; one that no run wrote is a run of its own."""
        name = _NAME.fullmatch(uris.name(info.uri))
        if name is None:
            return cls(info.uri, info.bytes, uris.name(info.uri), 0, 0)
        return cls(info.uri, info.bytes, name["run"], int(name["first"] or name["last"]), int(name["last"]))

    def covers(self, other: _File) -> bool:
        """Tell whether all rows of another file of the run are in this one."""
        return self != other and self.first < self.last and self.first <= other.first and other.last <= self.last


def needed(infos: Iterable[Info]) -> list[str]:
    """Return the journal files that have to be read: those that no merged one covers, by name."""
    return [file.uri for file in _sorted_out(infos)[0]]


def compact(folder: str, scratch: Path, check: Callable[[], None]) -> None:
    """Remove what earlier calls have merged, and merge what there is of small files.

    Args:
        folder: The journal's.
        scratch: Folder of this machine for merged files; where the journal is on a disk, on the same one.
        check: Called before each write; raises where the run may write no more.
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
    for one in infos:
        is_hidden = uris.name(one.uri).startswith(".")  # a Mac's or NFS's own
        if one.uri.endswith(".parquet") and uris.parent(one.uri).endswith(f"/{layout.JOURNAL}") and not is_hidden:
            file = _File.of(one)
            runs[file.run].append(file)
    files, covered = list[_File](), list[_File]()
    for of_run in runs.values():
        merged = [file for file in of_run if file.first < file.last]
        for file in of_run:
            (covered if any(other.covers(file) for other in merged) else files).append(file)
    return files, covered


def _groups(files: Iterable[_File]) -> Iterator[list[_File]]:
    """Yield files of one run that follow one another without a gap, as many as may be merged."""
    group, size = list[_File](), 0
    for file in files:
        size += file.bytes
        if group and ((group[-1].run, group[-1].last + 1) != (file.run, file.first) or size > MOST_BYTES):
            yield group
            group, size = [], file.bytes
        group.append(file)
    yield group


def _merge(group: Sequence[_File], path: Path) -> int:
    """Write the rows of files that have the same columns into one; return how many files those are, from the first on."""
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
            if sum(one.num_rows for one in waiting) >= GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    return count


def _read(file: _File) -> pa.Table | None:
    """Read a journal file; None where it cannot be: whoever opens the journal will say so."""
    try:
        return pyarrow.parquet.read_table(io.BytesIO(storage.read(file.uri)))
    except (pa.ArrowException, OSError):
        return None
