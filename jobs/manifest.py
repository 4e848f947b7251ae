"""`manifest`: list the audio of folders, prefixes, lists and inventories, and what is asked of it besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.progress.file_counter import FileCounter
from sep_batch.jobs.setup.stop import Stop
from sep_batch.pipeline import errors
from sep_batch.pipeline.manifest import duplicates, lists
from sep_batch.pipeline.manifest.lists import Reading
from sep_batch.pipeline.manifest.probe import PROBED, probe
from sep_batch.pipeline.manifest.scan import scan
from sep_batch.pipeline.storage import uris


@dataclass(frozen=True)
class Made:
    """A manifest that was written.

    Attributes:
        out: Where to.
        table: Its rows.
        warnings: Warnings, a line each.
    """

    out: str
    table: pa.Table
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return what there is, in words."""
        lines = [f"{self.table.num_rows} tracks in {self.out}; next: sep-batch run {self.out}"]
        if PROBED.names[0] in self.table.column_names:
            lines.insert(0, f"{_sum(self.table, 'probed_s') / 3600:.2f} h of audio, {_sum(self.table, 'size') / 1e9:.2f} GB")
        return lines


def _sum(table: pa.Table, column: str) -> float:
    return cast("float", pc.sum(table.column(column)).as_py() or 0)


@dataclass(frozen=True)
class Asked:
    """What a manifest is asked for besides its sources.

    Attributes:
        probe: Read each file's header.
        dedup: etag or sha256: files of one content are one row.
        limit: Only the first so many files.
        how: How lists are read.
    """

    probe: bool = False
    dedup: str | None = None
    limit: int | None = None
    how: Reading = field(default_factory=Reading)


def run_manifest(sources: Sequence[str], out: str, asked: Asked, tally: FileCounter | None = None) -> Made:
    """Write a manifest of the audio that the sources hold or name.

    Args:
        sources: Folders, prefixes, globs, files; lists; the manifest.json of an S3 Inventory.
        out: Parquet, CSV or JSONL, by its extension.
        asked: Options.
        tally: Told of every file; by default nothing is shown.

    Raises:
        UsageError, ManifestError, NotRunnableError: As they say; then nothing is written.
        KeyboardInterrupt: A signal came; nothing is written.
    """
    lists.refuse_target(out)
    if asked.dedup is not None and asked.dedup not in get_args(duplicates.Content):
        expected = " or ".join(get_args(duplicates.Content))
        raise errors.UsageError(f"--dedup {uris.printable(asked.dedup)}: expected {expected}")
    with Stop().on_signals():
        table, warnings = _listed(sources, asked, tally or FileCounter())
        lists.write(table, out)
    return Made(out, table, tuple(warnings))


def _listed(sources: Sequence[str], asked: Asked, tally: FileCounter) -> tuple[pa.Table, list[str]]:
    with tally.step("found") as seen:
        scanned = scan(sources, limit=asked.limit, how=asked.how, count_files=seen)
    table, warnings = scanned.table, list(scanned.warnings)
    if asked.dedup:
        with tally.step("compared", table.num_rows) as seen:
            table, notices = duplicates.leave_out(table, cast("duplicates.Content", asked.dedup), seen)
        warnings += notices
    if asked.probe:
        with tally.step("probed", table.num_rows) as seen:
            table, notices = probe(table, seen)
        warnings += notices
    return table, warnings
