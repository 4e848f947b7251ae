"""Statistics over tracks: median, mean and lowest of each stem, required medians, and differences to an earlier evaluation."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.scoring.track import SCORED
from sep_batch.pipeline.storage import uris

METRICS = ("sdr", "si_sdr", "bsseval_sdr", "bsseval_isr", "bsseval_sir", "bsseval_sar")
RESAMPLES, SEED = 10_000, 0  # of the bootstrap
Rows = Sequence[Mapping[str, Any]]


def of_stems(rows: Rows) -> dict[str, dict[str, dict[str, Any]]]:
    """Return tracks, median, mean and lowest in dB, and the id of the lowest, by stem and by each metric that has values."""
    by_stem = {stem: {metric: _of_values(values_of(rows, stem, metric)) for metric in METRICS} for stem in stems_of(rows)}
    return {stem: {metric: values for metric, values in metrics.items() if values} for stem, metrics in by_stem.items()}


def stems_of(rows: Rows) -> list[str]:
    """Return the stems that were scored."""
    return sorted({row["stem"] for row in rows if row["status"] == SCORED})


def values_of(rows: Rows, stem: str, metric: str) -> dict[str, float]:
    """Return a stem's values of a metric, by id."""
    named = ((row["id"], row.get(f"{metric}_db")) for row in rows if row["stem"] == stem and row["status"] == SCORED)
    return {id: value for id, value in named if value is not None}


def _of_values(values: Mapping[str, float]) -> dict[str, Any]:
    if not values:
        return {}
    numbers, lowest = list(values.values()), min((value, id) for id, value in values.items())[1]
    with np.errstate(invalid="ignore"):  # a mean of both infinities is NaN
        return {
            "tracks": len(numbers),
            "median_db": float(np.median(numbers)),
            "mean_db": float(np.mean(numbers)),
            "lowest_db": values[lowest],
            "lowest_id": lowest,
        }


def required(texts: Sequence[str]) -> dict[str, float]:
    """Read `vocals=5`: the median SDR that a stem has to reach, by stem.

    Raises:
        UsageError: A text is none of this form.
    """
    medians = {}
    for text in texts:
        stem, _, number = (word.strip() for word in text.partition("="))
        try:
            medians[stem] = float(number)
        except ValueError:
            medians[stem] = math.nan
        if not stem or not math.isfinite(medians[stem]):
            raise errors.UsageError(f"--min-sdr {text}: expected a stem and its median SDR in dB, as vocals=5")
    return medians


def below(medians: Mapping[str, float], stems: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Return a line for each stem that does not reach its required median."""
    lines = []
    for stem, required_db in medians.items():
        median = stems.get(stem, {}).get("sdr", {}).get("median_db")
        if median is None:
            lines.append(f"{stem}: no SDR, --min-sdr requires {required_db:g} dB; scored stems: {', '.join(stems) or 'none'}")
        elif not median >= required_db:
            lines.append(f"{stem}: median SDR {median:.2f} dB, --min-sdr requires {required_db:g} dB")
    return lines


def read(uri: str) -> list[dict[str, Any]]:
    """Read the rows of an earlier evaluation.

    Raises:
        NotRunnableError: It is missing, or no evaluation.
    """
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(storage.read(uris.absolute(uri))))
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"--baseline {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise errors.NotRunnableError(f"--baseline {uris.shown(uri)}: no Parquet file ({errors.first_line(error)})") from error
    if missing := {"id", "stem", "status", "sdr_db"} - set(table.column_names):
        names = ", ".join(sorted(missing))
        raise errors.NotRunnableError(f"--baseline {uris.shown(uri)}: no column {names}; expected a file that evaluate wrote")
    return list(table.to_pylist())


def differences(rows: Rows, earlier: Rows) -> dict[str, dict[str, Any]]:
    """Return the mean difference of SDR to an earlier evaluation, over the tracks that both have, by stem.

    The interval of 95 % is the percentile bootstrap over tracks. Source: Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, chapter 13.
    """
    results = {}
    for stem in stems_of(rows):
        ours, theirs = (values_of(some, stem, "sdr") for some in (rows, earlier))
        pairs = [(value, theirs[id]) for id, value in ours.items() if id in theirs]
        paired = np.array([value - other for value, other in pairs if math.isfinite(value) and math.isfinite(other)])
        interval = _interval(paired) if len(paired) > 1 else (None, None)
        mean_db = float(paired.mean()) if len(paired) else None
        results[stem] = {"tracks": len(paired), "mean_db": mean_db, "low_db": interval[0], "high_db": interval[1]}
    return results


def _interval(values: np.ndarray) -> tuple[float, float]:
    draw = np.random.default_rng(SEED)
    means = [values[draw.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
