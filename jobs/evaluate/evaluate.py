"""`evaluate`: how good stems are, on songs with true stems.

from sep_batch.jobs.evaluate import run_evaluate
result = run_evaluate("songs.parquet", model="spleeter:4stems", min_sdr=("vocals=5",))
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet

from sep_batch.jobs.evaluate import matching, picture, references, statistics
from sep_batch.jobs.evaluate.matching import Matched
from sep_batch.jobs.evaluate.references import Song
from sep_batch.jobs.evaluate.report import Evaluation
from sep_batch.jobs.evaluate.scores import scored
from sep_batch.jobs.progress.file_counter import FileCounter
from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup import outs, storage_options
from sep_batch.jobs.setup.stem_layout import default_out
from sep_batch.pipeline import errors, manifest, storage
from sep_batch.pipeline.manifest import SHOWN, formats
from sep_batch.pipeline.manifest.source_policy import SourcePolicy
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.scoring import bsseval
from sep_batch.pipeline.scoring.references import Source
from sep_batch.pipeline.scoring.track import FAILED, SCORED, SCORES, SILENT, Metrics
from sep_batch.pipeline.storage import uris

SONGS_FILE = "references.parquet"  # in OUT, the manifest made of a folder
_READ_WITH = ("uri_column", "id_column", "input_root", "allow_http", "bad_rows")  # options that `manifest.read` takes


def run_evaluate(
    source: str,
    out: str | None = None,
    *,
    estimates: str | None = None,
    metrics: Metrics = "sdr",
    output: str | None = None,
    png: str | None = None,
    baseline: str | None = None,
    min_sdr: Sequence[str] = (),
    progress: Progress | None = None,
    counter: FileCounter | None = None,
    **options: Any,
) -> Evaluation | Summary:
    """Separate the mixes of songs with true stems, and score the stems.

    Args:
        source: REFERENCES: a manifest with columns `ref_<stem>`, or a folder in MUSDB's layout.
        out: Folder or prefix for stems and scores; by default beside the source.
        estimates: An OUT of these songs, which is scored instead.
        metrics: `sdr`: SDR and SI-SDR; `bsseval`: BSSEval v4 too.
        output: URI of the Parquet file with every row; by default in OUT.
        png: URI of a picture of the distribution of SDR.
        baseline: URI of such a file of an earlier evaluation, to compare with.
        min_sdr: Median SDR that a stem has to reach, as `vocals=5`.
        progress: Progress display of the separation; by default nothing is shown.
        counter: Progress counter of scored tracks; by default nothing is shown.
        options: The fields of `Options`, for the separation.

    Returns:
        The evaluation; or the summary of the separation, if that was stopped.

    Raises:
        RunError: An argument is invalid, the separation could not start, or a storage is unusable.
    """
    medians = statistics.required(min_sdr)
    _check(metrics, out, estimates)
    access = storage_options.storage_options(options.get("endpoint_url"), options.get("storage_options"))
    storage.use(access)
    earlier = None if baseline is None else statistics.read(baseline)
    output, png = (None if uri is None else _target(flag, uri) for flag, uri in (("--output", output), ("--png", png)))
    if png is not None:
        picture.require_matplotlib()
    songs, source, out, warnings = _songs(source, out, estimates, options)
    if estimates is None:
        summary = run_job(source, out, progress=progress, **options)
        if summary.exit_code not in (0, errors.SOME_FAILED):
            return summary
        out, warnings = summary.out, (*warnings, *summary.warnings)
    begun = time.monotonic()
    with outs.errors():
        outs.refuse_no_out(out)
        if run := outs.run_at_work(out):
            warnings = (*warnings, f"{run}; tracks that it has not finished fail here")
        matched = matching.match(songs, out)
        rows = list(matched.failed)
        with (counter or FileCounter()).step("scored", len(matched.tracks), noun="tracks") as advance:
            for track in scored(matched.tracks, out, metrics, access, cpus=options.get("cpus")):
                rows += track
                advance(1)
    rows.sort(key=lambda row: (row["id"], row["stem"] or ""))  # so that sums do not depend on which track was done first
    result = _result(rows, matched, songs, Evaluation(out, metrics, warnings=warnings))
    result.below = statistics.below(medians, result.stems)
    if earlier is not None:
        result.baseline, result.differences = baseline, statistics.differences(rows, earlier)
    result.output = output or f"{out}/{layout.SCORES_FILE}"
    _write("--output", result.output, _parquet(pa.Table.from_pylist(rows, schema=SCORES)))
    if png is not None:
        result.png = png
        _write("--png", png, picture.draw(rows))
    is_failed = result.failed and not options.get("ok_with_failures")
    result.exit_code = errors.CHECK_FAILED if result.below else errors.SOME_FAILED if is_failed else 0
    result.seconds = time.monotonic() - begun
    return result


def _check(metrics: str, out: str | None, estimates: str | None) -> None:
    if metrics not in get_args(Metrics):
        raise errors.UsageError(f"--metrics {metrics}: expected {' or '.join(get_args(Metrics))}")
    if out is not None and estimates is not None:
        raise errors.UsageError(f"--out {uris.shown(out)}: --estimates is an OUT that is there already; leave one of them out")
    if metrics == "bsseval":
        bsseval.load()


def _songs(
    source: str, out: str | None, estimates: str | None, options: dict[str, Any]
) -> tuple[list[Song], str, str, tuple[str, ...]]:
    """Return the songs, the manifest to separate, OUT, and warnings about a folder."""
    read_with = {name: options[name] for name in _READ_WITH if name in options}
    policy = SourcePolicy.around(options.get("input_root"), allow_http=bool(options.get("allow_http")))
    try:
        absolute, is_table = uris.absolute(source), formats.extension_of(source) is not None
        is_table = is_table and not storage.is_folder(absolute)
        target = uris.target(out or estimates or (default_out(absolute) if is_table else f"{absolute}.stems"))
        warnings = tuple[str, ...]()
        if is_table:
            listed = manifest.read(absolute, **read_with)
        else:
            table, warnings = references.musdb_table(absolute)
            listed = manifest.check(table, absolute, uris.parent(absolute), around=policy)
    except errors.TrackError as error:
        raise errors.NotRunnableError(str(error)) from error
    songs = references.songs_of(listed, policy)[: options.get("limit")]
    if not is_table and estimates is None:
        source = _written(table, target)
    return songs, source, target, warnings


def _written(table: pa.Table, out: str) -> str:
    """Write the manifest made of a folder into OUT, and return its URI."""
    uri = f"{out}/{SONGS_FILE}"
    storage.put(uri, _parquet(table))
    return uri


def _parquet(table: pa.Table) -> bytes:
    content = io.BytesIO()
    pyarrow.parquet.write_table(table, content)
    return content.getvalue()


def _result(rows: list[dict[str, Any]], matched: Matched, songs: list[Song], result: Evaluation) -> Evaluation:
    """Fill in counts and statistics."""
    failed = [row for row in rows if row["status"] == FAILED]
    result.scored = len({row["id"] for row in rows if row["status"] in (SCORED, SILENT)})
    result.failed = dict(Counter(row["error_class"] for row in failed).most_common())
    result.failures = [{name: row[name] for name in ("id", "error_class", "error")} for row in failed[:SHOWN]]
    result.stems = statistics.of_stems(rows)
    result.silent = dict(Counter(row["stem"] for row in rows if row["status"] == SILENT))
    result.unreferenced = matched.unreferenced
    used = {source for track in matched.tracks for source in track.references}
    named = [(name, Source.of(uri, name) in used) for song in songs for name, uri in song.references.stems.items()]
    if matched.tracks:
        result.unused = sorted({name for name, _ in named} - {name for name, is_used in named if is_used})
    return result


def _target(flag: str, uri: str) -> str:
    with _naming(flag):
        return uris.target(uri)


def _write(flag: str, uri: str, content: bytes) -> None:
    with _naming(flag):
        storage.put(uri, content)


@contextmanager
def _naming(flag: str) -> Iterator[None]:
    """Turn storage errors into errors that name the flag of a file to write."""
    try:
        yield
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"{flag} {error}") from error
