"""`compare`: how far the stems of two OUTs are apart, from two models, precisions, devices or versions.

from sep_batch.jobs.compare import run_compare
result = run_compare("songs.float32", "songs.bfloat16", min_snr_db=40)
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from sep_batch.jobs.compare import pairs
from sep_batch.jobs.compare.differ import Difference, difference
from sep_batch.jobs.compare.report import KINDS, NOTES, Comparison
from sep_batch.jobs.progress.file_counter import FileCounter
from sep_batch.jobs.setup import outs
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest import SHOWN
from sep_batch.pipeline.out.database import DUCKDB
from sep_batch.pipeline.scoring.stem_file import StemFile
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.threads import in_threads

AT_ONCE = min(8, max(2, os.cpu_count() or 1))  # pairs of stems, each decoded by two child processes
LOWEST = 10  # stems that are listed
_STEMS = """SELECT stem, count(snr_db) AS compared, count(*) FILTER (snr_db = 'Infinity') AS equal,
    median(snr_db) FILTER (isfinite(snr_db)) AS snr_median_db, avg(snr_db) FILTER (isfinite(snr_db)) AS snr_mean_db,
    min(snr_db) FILTER (isfinite(snr_db)) AS snr_lowest_db, arg_min(id, snr_db) FILTER (isfinite(snr_db)) AS lowest_id,
    avg(level_db) FILTER (isfinite(level_db) AND snr_db < 'Infinity') AS level_mean_db,
    arg_max(level_db, abs(level_db)) FILTER (isfinite(level_db) AND snr_db < 'Infinity') AS level_largest_db
    FROM results GROUP BY stem HAVING compared > 0 ORDER BY stem"""
_LOWEST = """SELECT id, stem, snr_db, if(isfinite(level_db), level_db, NULL) AS level_db FROM results
    WHERE isfinite(snr_db) ORDER BY snr_db, id, stem LIMIT $limit"""
_BELOW = """INSERT INTO findings SELECT 'below', id, stem, if(isfinite(snr_db), format('{:.1f} dB', snr_db), detail)
    FROM results WHERE snr_db < $min ORDER BY snr_db, id, stem"""
_NOTHING = """INSERT INTO findings
    SELECT 'nothing', NULL, NULL, format('OUT_A has {} tracks, OUT_B {}, of which {} are ok in both',
    (SELECT count(*) FROM tracks_a), (SELECT count(*) FROM tracks_b), (SELECT count(*) FROM both_ok))
    WHERE NOT EXISTS (FROM results WHERE snr_db IS NOT NULL)"""


def run_compare(
    out_a: str,
    out_b: str,
    *,
    min_snr_db: float | None = None,
    output: str | None = None,
    shown: int | None = SHOWN,
    counter: FileCounter | None = None,
) -> Comparison:
    """Compare the stems of the tracks that are ok in both OUTs.

    Args:
        out_a: OUT_A, the reference; a path or URI.
        out_b: OUT_B.
        min_snr_db: Lowest SNR that is no finding, in dB; None accepts all.
        output: URI of a Parquet file for the rows of all stems.
        shown: Number of findings of each kind in the result; None is all.
        counter: Progress counter of stems; by default nothing is shown.

    Raises:
        UsageError: `min_snr_db` is no finite number.
        NotRunnableError: No run wrote to an OUT, its storage cannot be read, or `output` cannot be written.
    """
    if min_snr_db is not None and not math.isfinite(min_snr_db):
        raise errors.UsageError(f"--min-snr {min_snr_db}: expected a number of decibels, as 60")
    begun = time.monotonic()
    output = None if output is None else _output(output)
    out_a, out_b = (_opened(name, out) for name, out in (("OUT_A", out_a), ("OUT_B", out_b)))
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(config={"temp_directory": folder, **DUCKDB}) as connection:
        try:
            pairs.collect(connection, out_a, out_b)
            _decode(connection, out_a, out_b, counter or FileCounter())
        except errors.TrackError as error:
            raise errors.NotRunnableError(f"OUT {error}") from error
        if min_snr_db is not None:
            connection.execute(_BELOW, {"min": min_snr_db})
        connection.execute(_NOTHING)
        result = _result(connection, out_a, out_b, min_snr_db, shown)
        if output:
            _write(connection, output, Path(folder) / "rows.parquet")
    result.output, result.seconds = output, time.monotonic() - begun
    return result


def _opened(name: str, out: str) -> str:
    """Return an OUT's absolute URI."""
    try:
        out = uris.target(out)
        outs.refuse_no_out(out)
    except (errors.TrackError, errors.NotRunnableError) as error:
        raise errors.NotRunnableError(f"{name} {str(error).removeprefix('OUT ')}") from error
    return out


def _output(uri: str) -> str:
    try:
        return uris.target(uri)
    except errors.BadUri as error:
        raise errors.NotRunnableError(f"--output {error}") from error


def _decode(connection: duckdb.DuckDBPyConnection, out_a: str, out_b: str, counter: FileCounter) -> None:
    """Decode the stems whose bytes differ, and add them to the tables `results` and `findings`."""

    def compared(rows: tuple[dict[str, Any], dict[str, Any]]) -> tuple[str, str, Difference]:
        a, b = rows
        return a["id"], a["stem"], difference(StemFile.of(out_a, a), StemFile.of(out_b, b))

    count, left = pairs.differing(connection)
    with counter.step("compared", count, noun="stems") as advance:
        for id, stem, result in in_threads(compared, left, threads=AT_ONCE):
            connection.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)", (id, stem, *result))
            advance(1)
    connection.execute("INSERT INTO findings SELECT finding, id, stem, detail FROM results WHERE finding IS NOT NULL")


def _result(
    connection: duckdb.DuckDBPyConnection, out_a: str, out_b: str, min_snr_db: float | None, shown: int | None
) -> Comparison:
    counts = dict(connection.execute("SELECT kind, count(*) FROM findings GROUP BY kind").fetchall())
    counts = {kind: counts[kind] for kind in (*KINDS, *NOTES) if kind in counts}
    some = "SELECT id, stem, detail FROM findings WHERE kind = $kind LIMIT $shown"
    return Comparison(
        out_a,
        out_b,
        tracks=connection.execute("SELECT count(*) FROM both_ok").fetchall()[0][0],
        stems={row.pop("stem"): row for row in _rows(connection, _STEMS)},
        lowest=_rows(connection, _LOWEST, limit=LOWEST),
        min_snr_db=min_snr_db,
        counts=counts,
        findings={kind: _rows(connection, some, kind=kind, shown=shown) for kind in counts},
        at_work=[run for run in map(outs.run_at_work, dict.fromkeys((out_a, out_b))) if run],
        exit_code=errors.CHECK_FAILED if counts.keys() & KINDS.keys() else 0,
    )


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, **values: Any) -> list[dict[str, Any]]:
    result = connection.execute(sql, values)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _write(connection: duckdb.DuckDBPyConnection, uri: str, file: Path) -> None:
    """Write all rows as Parquet: whole or not at all."""
    connection.execute(f"COPY (FROM results ORDER BY id, stem) TO '{file}' (FORMAT parquet)")
    try:
        storage.put(uri, file.read_bytes())
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"--output {error}") from error
