"""The three stages: Analyze, Separate, Write. Plain callable classes: a block of rows in, rows out; no Ray here.

A stage catches everything: what goes wrong with a track becomes that track's failed row and passes through the later stages
as it is. Only what a constructor raises (weights, GPU) ends the run.

Torch is imported by the stages that need it: it costs three seconds and 200 MB in every process.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sep_batch.model import weights
from sep_batch.pipeline import audio, errors, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.rows import PART, WRITTEN, each, fill, payload, value
from sep_batch.pipeline.stages import analysis, stems, time_limit
from sep_batch.pipeline.stages.context import Work, failed
from sep_batch.pipeline.stages.long_tracks import finish, store
from sep_batch.pipeline.stages.time_limit import limited

if TYPE_CHECKING:
    from sep_batch.model.parts import Part

PATCHES_PER_PART = 20  # 3 min 57 s, 168 MB of spectrum: most songs are one part

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # glibc's mallopt parameters
_MAPPED_FROM_BYTES = 64 << 20  # a track's arrays; a patch's are smaller, and are kept
_KEPT_BYTES = 512 << 20


def _prepare_torch() -> None:
    """Have torch use this thread alone, and a patch's memory kept: mapping it anew for every patch cost a quarter of the time."""
    import torch

    torch.set_num_threads(1)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def worker_crash(row: pa.Table, work: Work) -> pa.Table:
    """Return the failed row of a track that a process died of, each time it was tried."""
    tried = fill(row, PART, attempts=value(row, "attempts") + 1)
    crash: errors.TrackError = errors.WorkerCrash("its process died, in each of three passes")
    if time_limit.was_over(value(row, "id"), work):
        crash = errors.TrackTimeout(f"a part of it took more than {work.limit_s:g} s, in each of three passes")
    return fill(failed(tried, crash, crash.stage, work), WRITTEN)


def _is_failed(row: pa.Table) -> bool:
    return bool(value(row, "status") == "failed")


class Analyze:
    """Fetch, decode and STFT: track rows in, parts with their spectrum out; with their wave, where Separate does the STFT."""

    def __init__(self, work: Work, *, niceness: int = 0) -> None:
        """Prepare the process.

        Args:
            work: What the run is about.
            niceness: Added to the process's: whether it gives way to others.
        """
        work.machine.refuse_other()
        _prepare_torch()
        os.nice(niceness)
        storage.use(work.storage)
        audio.start()  # as nice as this process
        self.work = work

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Yield a row a part, one track after another; none of a track that is not begun when the run is to stop."""
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
        spec, known = settings.spec, 0
        offset, duration = value(row, "offset_s"), value(row, "duration_s")
        source, found = storage.open_source(value(row, "uri"))
        with source:
            pieces, decoded = audio.decode(
                source,
                rate_hz=spec.sample_rate_hz,
                offset_s=settings.offset_s if offset is None else offset,
                duration_s=settings.duration_s if duration is None else duration,
                downmix=settings.downmix,
                on_damage=self.work.on_damage,
                silent_s=min(audio.SILENT_S, self.work.limit_s / 2),  # the decoder is given up before this process is
            )
            blocks, as_waves = map(torch.from_numpy, pieces), self.work.stft == "gpu"
            for number, part in enumerate(split_parts(blocks, spec, PATCHES_PER_PART, as_waves=as_waves)):
                begin, known = known, known + part.samples
                yield fill(
                    row,
                    PART,
                    audio_s=known / spec.sample_rate_hz,
                    source_rate_hz=decoded.rate_hz,
                    source_channels=decoded.channels,
                    source_codec=decoded.codec,
                    source_stream=decoded.stream,
                    source_streams=decoded.streams,
                    source_bytes=found.bytes,
                    source_etag=value(row, "source_etag") or found.etag,
                    truncated=decoded.truncated,
                    skipped_packets=decoded.skipped_packets,
                    source_used_ratio=decoded.source_used_ratio,
                    nonfinite_samples=decoded.nonfinite_samples,
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


class Separate:
    """The U-Nets: parts with a spectrum (or wave) in, parts with their stems out, measured and rounded as they are written."""

    def __init__(self, work: Work, model: str | Callable[[], Mapping[str, np.ndarray]], *, device: str, threads: int = 1) -> None:
        """Load the model.

        Args:
            work: What the run is about.
            model: The folder of a converted model, or what gives its weights; never fetched here.
            device: A torch device; never changed to another one.
            threads: Batches worked on at once.

        Raises:
            WeightsError: They are not there, or not the ones the run was planned with.
            NotRunnableError: This machine is not as the driver's.
        """
        work.machine.refuse_other()
        import torch

        from sep_batch.model.separator import Separator

        _prepare_torch()
        storage.use(work.storage)
        self.work = work
        tensors = model() if callable(model) else weights.load(Path(model))[1]
        self.separator = Separator(work.settings.spec, tensors, device=device, threads=threads, precision=work.settings.precision)
        if self.separator.weights_sha256 != work.settings.weights_sha256:
            found, expected = self.separator.weights_sha256, work.settings.weights_sha256
            raise weights.WeightsError(
                f"{'model' if callable(model) else model}: sha256 of the weights {found}, expected {expected} as on the driver"
            )
        self.device = torch.cuda.get_device_name(device) if device.startswith("cuda") else device

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Separate a whole block: the patches of all its parts are packed into batches, whatever track they come from."""
        return limited(self._rows(block), block.column("id").to_pylist(), self.work)

    def _rows(self, block: pa.Table) -> Iterator[pa.Table]:
        rows = list(each(block))
        yield from (row for row in rows if _is_failed(row))
        waiting = [row for row in rows if not _is_failed(row)]
        done = 0
        try:
            parts, begun = [_part(row) for row in waiting], time.perf_counter()
            waves: stems.Stems | None = None
            energy = np.zeros(2)
            for piece in self.separator.separate_parts(parts, self.work.settings.stems):
                if waves is None:
                    waves = self._stems(waiting[piece.place])
                waves.add(piece.waves)
                energy += piece.energy, piece.energy_above_f
                if waves.is_complete:
                    row = _with_energy(waiting[piece.place], *energy) if parts[piece.place].is_wave else waiting[piece.place]
                    yield self._separated(row, waves, time.perf_counter() - begun)
                    waves, energy, done, begun = None, np.zeros(2), piece.place + 1, time.perf_counter()
        except Exception as error:  # noqa: BLE001 (a failure is a row)
            for row in waiting[done:]:
                yield failed(row, _own(error), "separate", self.work)

    def _stems(self, row: pa.Table) -> stems.Stems:
        settings, samples = self.work.settings, value(row, "samples")
        sums = analysis.Sums(settings, begin=value(row, "begin"), samples=samples) if self.work.analysis else None
        return stems.Stems(settings, samples, sums)

    def _separated(self, row: pa.Table, waves: stems.Stems, seconds: float) -> pa.Table:
        settings = self.work.settings
        return fill(
            row,
            PART,
            model=settings.spec.name,
            weights_sha256=settings.weights_sha256,
            settings_sha256=settings.sha256,
            precision=settings.precision,
            device=self.device,
            separate_s=seconds,
            stems=waves.measured(),
            sums=waves.sums and waves.sums.told(),
            payload=waves.frames,
        )


def _part(row: pa.Table) -> Part:
    from sep_batch.model.parts import Part

    return Part(payload(row), value(row, "skip"), value(row, "samples"))


def _with_energy(row: pa.Table, energy: float, above_f: float) -> pa.Table:
    """Say of a part what Analyze says where it makes the spectrum."""
    return fill(row, PART, energy=energy, energy_above_f=above_f, above_f_db=stems.ratio_db(above_f, energy))


def _own(error: Exception) -> Exception:
    import torch

    return errors.OutOfMemory(str(error)) if isinstance(error, torch.OutOfMemoryError) else error


class Write:
    """Measure, encode and put the stems: parts with waves in, finished rows out; of a longer track, rows of stored parts."""

    def __init__(self, work: Work, *, niceness: int = 0) -> None:
        """Prepare the process.

        Args:
            work: What the run is about.
            niceness: Added to the process's: whether it gives way to others.
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
            if _is_failed(row):
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
        for place, frames in enumerate(payload(row)):
            measured = value(row, "stems")[place] | analysis.of_parts([row], place, work.settings)
            content, uri = io.BytesIO(), work.stem_uri(row, measured["stem"])
            blocks = (frames[begin : begin + codecs.BLOCK] for begin in range(0, len(frames), codecs.BLOCK))
            lufs = stems.write(content, blocks, work.settings, samples=len(frames))
            storage.put(f"{work.out}/{uri}", content.getbuffer(), scratch=work.scratch)
            digest, size = hashlib.sha256(content.getbuffer()).hexdigest(), content.getbuffer().nbytes
            written.append(work.stem(measured, uri=uri, size=size, sha256=digest, lufs=lufs))
        return finish(row, written, work, parts=1, write_s=time.perf_counter() - begun)
