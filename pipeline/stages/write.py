"""Write, the third stage: encodes stems and puts them on storage."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator

import pyarrow as pa

from sep_batch.pipeline import storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.rows import WRITTEN, each, fill, payload, value
from sep_batch.pipeline.stages import analysis, stem_tags, stems
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.failed_rows import failed, is_failed
from sep_batch.pipeline.stages.long_tracks import finish
from sep_batch.pipeline.stages.stored_parts import store
from sep_batch.pipeline.stages.time_limit import limited


class Write:
    """Encode and put the stems: parts with stems in, finished rows out; for a track of several parts, rows of stored parts."""

    def __init__(self, work: RunContext, *, niceness: int = 0) -> None:
        """Prepare the process.

        Args:
            work: Context of the run.
            niceness: Increment of the process's niceness.
        """
        work.machine.refuse_other()
        os.nice(niceness)
        storage.use(work.storage)
        self.work = work

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Yield each track's finished row after all its stems are durable, each part's row after it is stored."""
        return limited(self._rows(block), block.column("id").to_pylist(), self.work)

    def _rows(self, block: pa.Table) -> Iterator[pa.Table]:
        for row in each(block):
            if is_failed(row):
                yield fill(row, WRITTEN)
                continue
            try:
                yield self._written(row)
            except Exception as error:  # noqa: BLE001 (a failure is a row)
                yield fill(failed(row, error, "write", self.work), WRITTEN)

    def _written(self, row: pa.Table) -> pa.Table:
        if value(row, "part") or not value(row, "last"):
            return store(row, self.work)
        begun, work = time.perf_counter(), self.work
        written = []
        for number, frames in enumerate(payload(row)):
            measured = value(row, "stems")[number] | analysis.of_parts([row], number, work.settings)
            measured["lufs"] = stems.lufs([row], number, work.settings)
            content, uri = io.BytesIO(), work.stem_uri(row, measured["stem"])
            blocks = (frames[begin : begin + codecs.BLOCK] for begin in range(0, len(frames), codecs.BLOCK))
            tags = stem_tags.of_stem(row, measured["stem"], work.settings)
            stems.write(content, blocks, work.settings, samples=len(frames), tags=tags)
            work.refuse_ended()
            storage.put(f"{work.out}/{uri}", content.getbuffer(), scratch=work.scratch)
            digest, size = hashlib.sha256(content.getbuffer()).hexdigest(), content.getbuffer().nbytes
            written.append(work.stem(measured, uri=uri, size=size, sha256=digest))
        return finish(row, written, work, parts=1, write_s=time.perf_counter() - begun)
