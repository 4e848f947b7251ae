"""The Wiener filter over tracks of several parts, for which it needs all parts before it separates the first.

Such a part keeps the estimates of the U-Nets in place of its stems, and its wave, both patch by patch. They are stored; once all
of the track's parts are there, they become the rows and stored stems that Separate and Write make of other parts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sep_batch.model.spec import ModelSpec
from sep_batch.pipeline import errors
from sep_batch.pipeline.rows import PART, fill, value
from sep_batch.pipeline.stages import analysis
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.process import prepare_torch
from sep_batch.pipeline.stages.stems import Stems
from sep_batch.pipeline.stages.stored_parts import ESTIMATES, blocks, store

if TYPE_CHECKING:
    from sep_batch.model.wiener import EstimatedPatch


class Estimates:
    """The estimates of one part, in the place of its `Stems`."""

    def __init__(self, patches: Sequence[EstimatedPatch]) -> None:
        """Bring the part's patches to the CPU: (patches, values), first the wave of each, then its estimates."""
        flat = [np.concatenate([values.cpu().numpy().reshape(-1) for values in patch]) for patch in patches]
        self._values = np.stack(flat)

    @property
    def is_finite(self) -> bool:
        """True if all values are numbers."""
        return bool(np.isfinite(self._values).all())

    def columns(self) -> dict[str, Any]:
        """Return the columns of the part's row; stems are null."""
        return {"payload": self._values}


def filter_parts(parts: Sequence[pa.Table], work: RunContext) -> list[pa.Table]:
    """Filter a track from the stored estimates of its parts, store the stems of each part, and return the rows of the parts.

    Args:
        parts: Rows of all parts of the track, in order.
        work: Context of the run.

    Raises:
        WriteFailed: A stored part is not as it was stored, or cannot be stored.
        NonfiniteStems: A stem has values that are no numbers.
    """
    from sep_batch.model.wiener import filtered

    prepare_torch()
    settings, last = work.settings, parts[-1]
    samples = value(last, "begin") + value(last, "samples")
    pieces, rows = filtered(_StoredPatches(parts, work), samples, settings.spec, settings.stems), []
    for part in parts:
        begun, stems = time.perf_counter(), stems_of(part, work)
        while not stems.is_complete:
            waves, mix, band = next(pieces)
            stems.add(waves, mix, band if work.tests_null else None)
        if not stems.is_finite:
            raise errors.NonfiniteStems("the Wiener filter gave stems of values that are no numbers")
        seconds = value(part, "separate_s") + time.perf_counter() - begun
        rows.append(store(fill(part, PART, **stems.columns(), separate_s=seconds), work))
    return rows


def stems_of(row: pa.Table, work: RunContext) -> Stems:
    """Return the empty stems of a part."""
    begin, samples = value(row, "begin"), value(row, "samples")
    sums = analysis.Sums(work.settings, begin=begin, samples=samples) if work.analysis else None
    return Stems(work.settings, samples, sums, begin=begin)


def patch_bytes(spec: ModelSpec) -> int:
    """Return the bytes of a patch and its estimates."""
    values = spec.channels * (spec.patch_wave_samples + len(spec.stems) * spec.patch_frames * spec.bins)
    return values * np.dtype(np.float32).itemsize


@dataclass(frozen=True)
class _StoredPatches:
    """The patches of all parts, read from storage each time that they are iterated."""

    parts: Sequence[pa.Table]
    work: RunContext

    def __iter__(self) -> Iterator[EstimatedPatch]:
        import torch

        from sep_batch.model.wiener import EstimatedPatch

        spec = self.work.settings.spec
        wave, estimates = (spec.channels, spec.patch_wave_samples), (len(spec.stems), spec.channels, spec.patch_frames, spec.bins)
        border, size = math.prod(wave), patch_bytes(spec)
        for part in self.parts:
            for content in blocks(part, ESTIMATES, self.work, size=size, total=size * _patch_count(part, spec)):
                values = torch.frombuffer(bytearray(content), dtype=torch.float32)
                yield EstimatedPatch(values[:border].view(wave), values[border:].view(estimates))


def _patch_count(part: pa.Table, spec: ModelSpec) -> int:
    """Return the number of a part's own patches: the last part has frames beyond its samples, which may fill another one."""
    from sep_batch.model.spectrogram import patch_count

    begin, end = value(part, "begin"), value(part, "begin") + value(part, "samples")
    before, after = ((sample + spec.frame_length) // spec.patch_samples for sample in (begin, end))
    return (patch_count(end, spec) if value(part, "last") else int(after)) - int(before)
