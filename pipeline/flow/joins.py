"""Ray tasks, beside the flow, that join the parts of long tracks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pyarrow as pa
import ray

from sep_batch.pipeline import storage
from sep_batch.pipeline.flow.resources import NICENESS
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.long_tracks import join

CPUS_PER_JOIN = 0.1  # so small that a join always finds room beside the actors, whose CPUs it shares
_LOST = (  # errors of a task that lost its process, its node or its arguments
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
)


@ray.remote(num_cpus=CPUS_PER_JOIN, max_retries=1)
def join_parts(parts: list[pa.Table], work: RunContext) -> pa.Table:
    """Join the parts of a track; return its row."""
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    storage.use(work.storage)
    return join(parts, work)


def joined(joins: list[ray.ObjectRef[pa.Table]], *, timeout_s: float | None) -> Iterator[pa.Table]:
    """Yield the rows of finished joins, and remove these from the list; the driver's next pass retries lost tracks."""
    if not joins:
        return
    done, joins[:] = ray.wait(joins, num_returns=1 if timeout_s is None else len(joins), timeout=timeout_s)
    for finished in done:
        with contextlib.suppress(*_LOST):
            yield ray.get(finished)
