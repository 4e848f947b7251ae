"""Parts of long tracks on storage, below the run's folder of parts.

A part is stored as raw little-endian samples in the format that its codec takes, so a join only reads, encodes and puts. Where
the track's filter needs all parts first, a part is stored as the estimates of the U-Nets.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pyarrow as pa

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.rows import WRITTEN, fill, payload, value
from sep_batch.pipeline.stages.context import RunContext

ESTIMATES = "estimates"


def store(row: pa.Table, work: RunContext) -> pa.Table:
    """Store one part's stems, and return its row, whose status is null since a part is not a finished track."""
    begun, content = time.perf_counter(), payload(row)
    is_estimated = value(row, "stems") is None
    for name, frames in [(ESTIMATES, content)] if is_estimated else zip(work.settings.written_stems, content, strict=True):
        work.refuse_ended()
        storage.put(_uri(row, name, work), frames.data, scratch=work.scratch)
    return fill(row, WRITTEN, write_s=(value(row, "write_s") or 0) + time.perf_counter() - begun)


def blocks(row: pa.Table, name: str, work: RunContext, *, size: int, total: int) -> Iterator[bytes]:
    """Yield the content of a stored part in blocks.

    Args:
        row: The part's row.
        name: Name of the stem, or `ESTIMATES`.
        work: Context of the run.
        size: Bytes of a block; the last one may be shorter.
        total: Bytes of all blocks.

    Raises:
        WriteFailed: The part cannot be read, or is too short.
    """
    uri, missing = _uri(row, name, work), total
    try:
        source, _ = storage.open_source(uri)
    except errors.TrackError as error:
        raise errors.WriteFailed(f"a stored part cannot be read: {error}") from error
    with source:
        while missing:
            work.refuse_ended()
            content = source.read(size)
            if len(content) < min(size, missing):
                raise errors.WriteFailed(f"{uri}: {missing - len(content)} of {total} bytes are missing from a stored part")
            missing -= len(content)
            yield content


def _uri(row: pa.Table, name: str, work: RunContext) -> str:
    return f"{work.parts}/{value(row, 'id')}/{value(row, 'part')}.{name}"
