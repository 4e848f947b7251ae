"""Measurement for a forecast: a run of a minute over synthesised tracks, as long as the plan's, with the same model and stems.

The duration of a run is its start plus audio / rate. A short run is mostly start, so its mean speed does not predict a long run.
The rate is therefore the slope of finished audio over time, which excludes the start and the end of the measurement. The start
is corrected by the additional latency of the plan's first part, which may be longer than the measured tracks.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from statistics import linear_regression
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from sep_batch.jobs.bench.catalog import write_catalog
from sep_batch.jobs.plan.amounts import Amounts
from sep_batch.jobs.progress.bottleneck import COLUMNS
from sep_batch.jobs.progress.forecast import Forecast
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors
from sep_batch.pipeline.out import index
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART

MEASURED_S = 60.0  # deadline of the measured run
LEAST_TRACKS = 4  # for a slope
MOST_TRACKS = 5000
MOST_BYTES = 16 << 30  # stems in the temporary folder; also at most half of the free space there
SHORTEST_S = 1.0
LONGEST_PATCHES = 4.875  # fill five patches, with as small a share of padding as a song of four minutes
_DEFAULTED = (
    *("more", "limit", "sample", "restore", "offset_s", "duration_s", "filename", "overwrite"),
    *("uri_column", "id_column", "input_root", "allow_http"),
)


def calibrate(options: Options, settings: Settings, planned: Amounts, tracks: int) -> Forecast:
    """Measure the speed of this machine, and return the forecast of a plan that will run on it alone.

    Args:
        options: Options of the run.
        settings: Settings of the run.
        planned: Amounts of the plan.
        tracks: Number of tracks to do.

    Raises:
        NotRunnableError: No track has a known or estimated duration, or in the measured run no track finished or one failed.
    """
    if not planned.audio_s:
        raise errors.NotRunnableError(
            "--calibrate: the durations of all tracks are unknown; make a manifest with sep-batch manifest --probe"
        )
    mean_s, patch_s = planned.audio_s / (tracks - planned.unknown), settings.spec.patch_samples / settings.spec.sample_rate_hz
    track_s = max(SHORTEST_S, min(LONGEST_PATCHES * patch_s, mean_s))
    with tempfile.TemporaryDirectory(prefix="sep-batch-calibrate-") as folder:
        _write_manifest(folder, track_s, settings)
        begun = time.monotonic()
        summary = _run(folder, options)
        took_s = time.monotonic() - begun
        _refuse_unmeasured(summary, took_s)
        rows = index.read(f"{folder}/stems").select(["finished_at", "audio_s", *COLUMNS.values()]).to_pylist()
    ends = sorted((row["finished_at"].timestamp(), row["audio_s"]) for row in rows)
    rate = slope(ends) or summary.audio_s / max(summary.seconds - summary.start_s, 1e-3)
    start_s = took_s - summary.audio_s / rate + longer_way_s(rows, min(mean_s, PATCHES_PER_PART * patch_s) - track_s, rate)
    return Forecast(tracks, planned.audio_s, max(0.0, start_s), rate)


def longer_way_s(rows: Sequence[Mapping[str, Any]], longer_s: float, rate: float) -> float:
    """Return the additional latency in seconds of the plan's first part, which passes the stages alone, over a measured one's.

    Args:
        rows: Finished rows of the measured tracks.
        longer_s: Seconds of audio by which the plan's parts are longer.
        rate: Seconds of audio a second, at which the forecast already counts the first part.
    """
    latency: float = sum(row[column] for row in rows for column in COLUMNS.values()) / sum(row["audio_s"] for row in rows)
    return longer_s * max(0.0, latency - 1 / rate)


def _run(folder: str, options: Options) -> Summary:
    """Run for `MEASURED_S` with the plan's options, except those about its manifest and OUT."""
    defaults = {name: getattr(Options, name) for name in _DEFAULTED}
    measured = dataclasses.replace(options, **defaults, deadline=f"{MEASURED_S:.0f}s", max_failures="0")
    fields = {field.name: getattr(measured, field.name) for field in dataclasses.fields(measured)}
    return run_job(f"{folder}/tracks.parquet", f"{folder}/stems", **fields)


def _refuse_unmeasured(summary: Summary, took_s: float) -> None:
    if summary.exit_code == errors.STOPPED and took_s < MEASURED_S:
        raise KeyboardInterrupt  # stopped by a signal, not by the deadline
    if not summary.ok or summary.failed:
        counts = ", ".join(f"{count} {name}" for name, count in summary.failed.most_common()) or "0 failed"
        raise errors.NotRunnableError(f"--calibrate: {summary.ok} tracks separated in {took_s:.0f} s, {counts}")


def slope(ends: Sequence[tuple[float, float]]) -> float | None:
    """Return seconds of audio a second.

    Args:
        ends: Time at which each track was finished, in order, and its seconds of audio.

    Returns:
        Slope of the regression line of finished audio over time; None for fewer than `LEAST_TRACKS` tracks.
    """
    if len(ends) < LEAST_TRACKS or ends[0][0] == ends[-1][0]:
        return None
    done, finished = 0.0, list[float]()
    for _, seconds in ends:
        done += seconds
        finished.append(done)
    return linear_regression([at for at, _ in ends], finished).slope


def _write_manifest(folder: str, track_s: float, settings: Settings) -> None:
    """Write one MP3 and one FLAC, and a manifest that repeats them in turn, more often than can be done in the time."""
    write_catalog(folder, 2 * track_s)
    pcm = (
        track_s
        * settings.spec.sample_rate_hz
        * settings.spec.channels
        * settings.codec.bytes_a_value
        * len(settings.written_stems)
    )
    most_bytes = min(MOST_BYTES, shutil.disk_usage(folder).free / 2)
    count = max(LEAST_TRACKS, min(MOST_TRACKS, int(most_bytes / pcm)))
    uris = [f"catalog/{('0000.mp3', '0001.flac')[number % 2]}" for number in range(count)]
    table = pa.table({"uri": uris, "id": [f"{number:04}" for number in range(count)]})
    pyarrow.parquet.write_table(table, f"{folder}/tracks.parquet")
