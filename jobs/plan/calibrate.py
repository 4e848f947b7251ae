"""A forecast's measurement: a run of a minute over synthesised tracks, as long as the plan's, with the same model and stems.

What a run takes is its start and then a rate; a short run's own speed would say too little of a long one. So the rate is the
slope of finished audio over time, which neither the start nor the end of the measurement is part of; and the start is longer by
what the plan's longer tracks take to come through the first time.
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

from sep_batch.jobs.bench.bench import write_catalog
from sep_batch.jobs.plan.amounts import Amounts
from sep_batch.jobs.progress.bottleneck import COLUMNS
from sep_batch.jobs.progress.forecast import Forecast
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup.machine import cluster
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors
from sep_batch.pipeline.out import index
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART

MEASURED_S = 60.0  # after which the run takes no more in
LEAST_TRACKS = 4  # for a slope
MOST_TRACKS = 5000
MOST_BYTES = 16 << 30  # of stems in the temporary folder, and at most half of what is free there
SHORTEST_S = 1.0
LONGEST_PATCHES = 4.875  # of five: as small a share of them is empty as of a song of four minutes
_OF_MANIFEST = ("limit", "offset_s", "duration_s", "filename", "overwrite", "uri_column", "id_column", "input_root", "allow_http")


def calibrate(options: Options, settings: Settings, planned: Amounts, tracks: int) -> Forecast:
    """Measure how fast this machine is, and say what a plan will take it.

    Args:
        options: Options of the run.
        settings: Settings of the run.
        planned: How much it is.
        tracks: To do.

    Raises:
        UsageError: It will run on a cluster.
        NotRunnableError: Nothing is known of the tracks' length, or nothing was done in the time.
    """
    if address := cluster(options):
        raise errors.UsageError(f"--calibrate measures this machine, not the cluster at {address}; leave the address away")
    if not planned.audio_s:
        raise errors.NotRunnableError("--calibrate: nothing is known of the tracks' length")
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
    """Return how much longer the plan's first part is on its way through the stages than a measured one, with none behind it yet.

    Args:
        rows: Finished rows of the measured tracks.
        longer_s: Seconds of audio that the plan's parts have more.
        rate: Seconds of audio a second, which the first part's counts with too.
    """
    way: float = sum(row[column] for row in rows for column in COLUMNS.values()) / sum(row["audio_s"] for row in rows)
    return longer_s * max(0.0, way - 1 / rate)


def _run(folder: str, options: Options) -> Summary:
    """Run for `MEASURED_S`, with what is wanted but for what is said of the manifest and of OUT."""
    defaults = {name: getattr(Options, name) for name in _OF_MANIFEST}
    asked = dataclasses.replace(options, **defaults, deadline=f"{MEASURED_S:.0f}s", max_failures="0")
    given = {field.name: getattr(asked, field.name) for field in dataclasses.fields(asked)}
    return run_job(f"{folder}/tracks.parquet", f"{folder}/stems", **given)


def _refuse_unmeasured(summary: Summary, took_s: float) -> None:
    if summary.exit_code == errors.STOPPED and took_s < MEASURED_S:
        raise KeyboardInterrupt  # a signal, not the end of the time
    if not summary.ok or summary.failed:
        counts = ", ".join(f"{count} {name}" for name, count in summary.failed.most_common())
        raise errors.NotRunnableError(f"--calibrate: no track was done in {took_s:.0f} s{f' ({counts})' if counts else ''}")


def slope(ends: Sequence[tuple[float, float]]) -> float | None:
    """Return seconds of audio a second.

    Args:
        ends: When each track was finished, in order, and its seconds of audio.

    Returns:
        The slope of the line through what was finished by when; None where too few tracks say nothing.
    """
    if len(ends) < LEAST_TRACKS or ends[0][0] == ends[-1][0]:
        return None
    done, finished = 0.0, list[float]()
    for _, seconds in ends:
        done += seconds
        finished.append(done)
    return linear_regression([at for at, _ in ends], finished).slope


def _write_manifest(folder: str, track_s: float, settings: Settings) -> None:
    """Write one MP3 and one FLAC, and a manifest that names them in turn, more often than the time lasts."""
    write_catalog(folder, 2 * track_s)
    pcm = track_s * settings.spec.sample_rate_hz * settings.spec.channels * settings.codec.bytes_a_value * len(settings.stems)
    room = min(MOST_BYTES, shutil.disk_usage(folder).free / 2)
    count = max(LEAST_TRACKS, min(MOST_TRACKS, int(room / pcm)))
    uris = [f"catalog/{('0000.mp3', '0001.flac')[number % 2]}" for number in range(count)]
    table = pa.table({"uri": uris, "id": [f"{number:04}" for number in range(count)]})
    pyarrow.parquet.write_table(table, f"{folder}/tracks.parquet")
