"""`manifest`: list the audio of folders, prefixes, lists and inventories; probe and deduplicate it on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.progress.file_counter import FileCounter
from sep_batch.jobs.setup.stop import Stop
from sep_batch.jobs.setup.units import audio_length, data_size, tracks
from sep_batch.pipeline import errors
from sep_batch.pipeline.manifest import duplicates, lists
from sep_batch.pipeline.manifest.lists import Reading
from sep_batch.pipeline.manifest.probe import PROBED, probe
from sep_batch.pipeline.manifest.scan import scan
from sep_batch.pipeline.storage import uris


@dataclass(frozen=True)
class WrittenManifest:
    """A manifest that was written.

    Attributes:
        out: Path or URI of the manifest.
        table: Rows of the manifest.
        warnings: Warnings, a line each.
    """

    out: str
    table: pa.Table
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the lines that the command prints."""
        lines = [f"{tracks(self.table.num_rows)} in {self.out}; next: sep-batch run {self.out}"]
        if PROBED.names[0] in self.table.column_names:
            lines.insert(0, f"{audio_length(_sum(self.table, 'probed_s'))} of audio, {data_size(_sum(self.table, 'size'))}")
        return lines


def _sum(table: pa.Table, column: str) -> float:
    return cast("float", pc.sum(table.column(column)).as_py() or 0)


@dataclass(frozen=True)
class ManifestOptions:
    """Options of a manifest besides its sources.

    Attributes:
        probe: Read each file's header.
        dedup: "etag" or "sha256": keep one row of files with equal content; None keeps all.
        limit: Number of files to list, the first ones; None lists all.
        reading: Options for reading lists and folders.
    """

    probe: bool = False
    dedup: str | None = None
    limit: int | None = None
    reading: Reading = field(default_factory=Reading)


def run_manifest(sources: Sequence[str], out: str, options: ManifestOptions, tally: FileCounter | None = None) -> WrittenManifest:
    """Write a manifest of the audio that the sources hold or name.

    Args:
        sources: Folders, prefixes, globs, files; lists; the manifest.json of an S3 Inventory.
        out: Path or URI of the manifest: Parquet, CSV or JSONL, by its extension.
        options: Options.
        tally: Counter that shows the progress; by default nothing is shown.

    Raises:
        UsageError, ManifestError, NotRunnableError: An option, a source or the target is refused; nothing is written.
        KeyboardInterrupt: A signal came; nothing is written.
    """
    lists.refuse_target(out)
    if options.dedup is not None and options.dedup not in get_args(duplicates.Content):
        expected = " or ".join(get_args(duplicates.Content))
        raise errors.UsageError(f"--dedup {uris.printable(options.dedup)}: expected {expected}")
    with Stop().on_signals():
        table, warnings = _listed(sources, options, tally or FileCounter())
        lists.write(table, out)
    return WrittenManifest(out, table, tuple(warnings))


def _listed(sources: Sequence[str], options: ManifestOptions, tally: FileCounter) -> tuple[pa.Table, list[str]]:
    with tally.step("found") as advance:
        scanned = scan(sources, limit=options.limit, how=options.reading, count_files=advance)
    table, warnings = scanned.table, list(scanned.warnings)
    if options.dedup:
        with tally.step("compared", table.num_rows) as advance:
            table, notices = duplicates.leave_out(table, cast("duplicates.Content", options.dedup), advance)
        warnings += notices
    if options.probe:
        with tally.step("probed", table.num_rows) as advance:
            table, notices = probe(table, advance)
        warnings += notices
    return table, warnings
