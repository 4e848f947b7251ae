"""Long tracks, whose parts are joined in tasks beside the flow."""

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

CPUS_PER_JOIN = 0.1  # so that it always finds room beside the actors, whose own CPUs it takes turns on
_LOST = (  # what a task ends with that was lost with its process, its node, or what it was given
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
    """Yield the rows of the joins that are done, and take them out of the list; what died is run again by the driver."""
    if not joins:
        return
    done, joins[:] = ray.wait(joins, num_returns=1 if timeout_s is None else len(joins), timeout=timeout_s)
    for one in done:
        with contextlib.suppress(*_LOST):
            yield ray.get(one)
