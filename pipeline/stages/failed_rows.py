"""Rows of tracks that fail."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from sep_batch.pipeline import errors
from sep_batch.pipeline.rows import PART, WRITTEN, fill, value
from sep_batch.pipeline.stages import time_limit
from sep_batch.pipeline.stages.context import RunContext


def failed(row: pa.Table, error: BaseException, stage: str, work: RunContext) -> pa.Table:
    """Return a track's failed row for an exception that a stage caught; its payload is empty, never null."""
    done = {"finished_at": datetime.now(UTC), "settings_sha256": work.settings.sha256, "run_id": work.run}
    emptied = {"payload": np.empty(0, np.float32), "part": 0, "last": True, "skip": 0, "samples": 0, "stems": None}
    return fill(row, PART, **errors.describe(error, stage), **done, **emptied, sums=None, tags=None)


def worker_crash(row: pa.Table, work: RunContext, cuda_error: str = "") -> pa.Table:
    """Return the failed row of a track whose process died in every pass.

    Args:
        row: Its row of the plan.
        work: Context of the run.
        cuda_error: The CUDA error that the process died of, if it was one.
    """
    tried = fill(row, PART, attempts=value(row, "attempts") + 1)
    cause = f": {cuda_error}" if cuda_error else ""
    crash: errors.TrackError = errors.WorkerCrash(f"the worker's process died in each of three passes{cause}")
    if time_limit.was_over(value(row, "id"), work):
        crash = errors.TrackTimeout(f"one part took more than {work.limit_s:g} s in a stage, in each of three passes")
    return fill(failed(tried, crash, crash.stage, work), WRITTEN)


def is_failed(row: pa.Table) -> bool:
    """Tell whether a row is that of a failed track."""
    return bool(value(row, "status") == "failed")
