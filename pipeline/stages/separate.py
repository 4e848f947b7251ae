"""Separate, the second stage: the U-Nets make stems of parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from sep_batch.model import weights
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.rows import PART, each, fill, payload, value
from sep_batch.pipeline.stages import analysis, stems
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.failed_rows import failed, is_failed
from sep_batch.pipeline.stages.process import prepare_torch
from sep_batch.pipeline.stages.time_limit import limited

if TYPE_CHECKING:
    from sep_batch.model.parts import Part


class Separate:
    """The U-Nets: parts with a spectrum (or wave) in, parts with their stems out, measured and rounded as they are written."""

    def __init__(
        self, work: RunContext, model: str | Callable[[], Mapping[str, np.ndarray]], *, device: str, threads: int = 1
    ) -> None:
        """Load the model.

        Args:
            work: Settings and places of the run.
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

        prepare_torch()
        storage.use(work.storage)
        self.work = work
        tensors = model() if callable(model) else weights.load(Path(model))[1]
        self.separator = Separator(work.settings.spec, tensors, device=device, threads=threads, precision=work.settings.precision)
        if self.separator.weights_sha256 != work.settings.weights_sha256:
            digest, expected = self.separator.weights_sha256, work.settings.weights_sha256
            raise weights.WeightsError(
                f"{'model' if callable(model) else model}: sha256 of the weights {digest}, expected {expected} as on the driver"
            )
        self.device = torch.cuda.get_device_name(device) if device.startswith("cuda") else device

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """Separate a whole block: the patches of all its parts are packed into batches, whatever track they come from."""
        return limited(self._rows(block), block.column("id").to_pylist(), self.work)

    def _rows(self, block: pa.Table) -> Iterator[pa.Table]:
        rows = list(each(block))
        yield from (row for row in rows if is_failed(row))
        waiting = [row for row in rows if not is_failed(row)]
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
            sums=waves.sums and waves.sums.rows(),
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
