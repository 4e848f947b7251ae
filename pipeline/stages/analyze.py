"""Analyze, the first stage: fetches and decodes a track, and cuts it into parts with their spectrum.

The three stages are plain callable classes without Ray: a block of rows in, rows out. A stage catches every exception: it becomes
the track's failed row, which later stages pass on. Only an exception of a constructor (weights, GPU) ends the run. Torch is
imported only by the stages that need it: it costs three seconds and 200 MB in every process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pyarrow as pa

from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.rows import PART, each, fill, value
from sep_batch.pipeline.stages import stem_tags, stems
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.failed_rows import failed
from sep_batch.pipeline.stages.process import prepare_torch
from sep_batch.pipeline.stages.time_limit import limited

PATCHES_PER_PART = 20  # 3 min 57 s, 168 MB of spectrum: most songs are one part


class Analyze:
    """Fetch, decode and STFT: track rows in, parts with their spectrum out, or with their wave where Separate does the STFT."""

    def __init__(self, work: RunContext, *, niceness: int = 0) -> None:
        """Prepare the process.

        Args:
            work: Context of the run.
            niceness: Increment of the process's niceness.
        """
        work.machine.refuse_other()
        prepare_torch()
        os.nice(niceness)
        storage.use(work.storage)
        audio.start()  # its process inherits the niceness, if none waits already
        self.work = work

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Yield one row per part, track after track; begin no further track when the run is stopping."""
        for row in each(block):
            if self.work.is_stopping():
                return
            tried = fill(row, PART, attempts=value(row, "attempts") + 1)
            try:
                yield from limited(self._parts(tried), [value(row, "id")], self.work)
            except Exception as error:  # noqa: BLE001 (a failure is a row)
                yield failed(tried, error, "decode", self.work)

    def _parts(self, row: pa.Table) -> Iterator[pa.Table]:
        import torch

        from sep_batch.model.parts import split_parts

        begun, settings = time.perf_counter(), self.work.settings
        spec, decoded_samples = settings.spec, 0
        offset, duration = value(row, "offset_s"), value(row, "duration_s")
        source, info = storage.open_source(value(row, "uri"))
        with source:
            tags = stem_tags.columns(audio.read_tags(source) if settings.copy_tags else audio.SourceTags(), settings)
            pieces, decoded = audio.decode(
                source,
                rate_hz=spec.sample_rate_hz,
                offset_s=settings.offset_s if offset is None else offset,
                duration_s=settings.duration_s if duration is None else duration,
                downmix=settings.downmix,
                on_damage=self.work.on_damage,
                silent_s=min(audio.SILENT_S, self.work.limit_s / 2),  # the decoder's limit passes before this process's
            )
            blocks, as_waves = map(torch.from_numpy, pieces), self.work.has_waves
            for number, part in enumerate(split_parts(blocks, spec, PATCHES_PER_PART, as_waves=as_waves)):
                begin, decoded_samples = decoded_samples, decoded_samples + part.samples
                yield fill(
                    row,
                    PART,
                    audio_s=decoded_samples / spec.sample_rate_hz,
                    source_rate_hz=decoded.rate_hz,
                    source_channels=decoded.channels,
                    source_codec=decoded.codec,
                    source_stream=decoded.stream,
                    source_streams=decoded.streams,
                    source_bytes=info.bytes,
                    source_etag=value(row, "source_etag") or info.etag,
                    truncated=decoded.truncated,
                    skipped_packets=decoded.skipped_packets,
                    source_used_ratio=decoded.source_used_ratio,
                    nonfinite_samples=decoded.nonfinite_samples,
                    tags_warning=tags["tags_warning"],
                    tags=None if number else tags["tags"],
                    decode_rules=audio.DECODE_RULES,
                    above_f_db=stems.ratio_db(part.energy_above_f, part.energy),
                    decode_s=time.perf_counter() - begun,
                    part=number,
                    last=part.last,
                    skip=part.skip,
                    begin=begin,
                    samples=part.samples,
                    energy=part.energy,
                    energy_above_f=part.energy_above_f,
                    payload=part.payload,
                )
                del part  # before the next one is made
                begun = time.perf_counter()
