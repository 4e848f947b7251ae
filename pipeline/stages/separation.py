"""Parts to stems by a separator, with ratio masks or with the Wiener filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from sep_batch.pipeline.rows import PART, fill, payload, value
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.estimates import Estimates, stems_of
from sep_batch.pipeline.stages.stems import Stems, ratio_db

if TYPE_CHECKING:
    from torch import Tensor

    from sep_batch.model.parts import Part
    from sep_batch.model.separator import Separator


class Separated(NamedTuple):
    """A part that was separated.

    Attributes:
        row: Its row; where it travelled as a wave, with the energies of its spectrum, which else Analyze fills.
        result: Its stems; under the Wiener filter the estimates, if there is more of the track.
    """

    row: pa.Table
    result: Stems | Estimates


def separated(separator: Separator, rows: Sequence[pa.Table], work: RunContext) -> Iterator[Separated]:
    """Separate parts, and yield them in their order."""
    parts = [_part(row) for row in rows]
    yield from (_filtered if work.settings.mwf else _masked)(separator, rows, parts, work)


def _masked(separator: Separator, rows: Sequence[pa.Table], parts: Sequence[Part], work: RunContext) -> Iterator[Separated]:
    """Separate with ratio masks."""
    pieces_of_all = separator.separate_parts(parts, work.settings.stems, null_test=work.tests_null)
    for number, pieces in groupby(pieces_of_all, attrgetter("part_index")):
        part, stems, energy = parts[number], stems_of(rows[number], work), np.zeros(2)
        for piece in pieces:
            work.refuse_ended()
            mix = _mix(part, stems.position, piece.waves.shape[-1]) if work.settings.needs_wave else None
            stems.add(piece.waves, mix, piece.band)
            energy += piece.energy, piece.energy_above_f
        yield Separated(_with_energy(rows[number], *energy) if part.is_wave else rows[number], stems)
        del stems  # before the next ones are made


def _filtered(separator: Separator, rows: Sequence[pa.Table], parts: Sequence[Part], work: RunContext) -> Iterator[Separated]:
    """Separate whole tracks with the Wiener filter; return the estimates of other parts."""
    from sep_batch.model.wiener import filtered

    settings = work.settings
    for number, pieces in groupby(separator.estimate_parts(parts), attrgetter("part_index")):
        row, patches, energy = rows[number], [], np.zeros(2)
        for piece in pieces:
            work.refuse_ended()
            patches.append(piece.patch)
            energy += piece.energy, piece.energy_above_f
        result: Stems | Estimates
        if value(row, "part") or not value(row, "last"):
            result = Estimates(patches)
        else:
            result = stems_of(row, work)
            for own in filtered(patches, value(row, "samples"), settings.spec, settings.stems):
                work.refuse_ended()
                result.add(own.waves, own.mix, own.band if work.tests_null else None)
        yield Separated(_with_energy(row, *energy), result)
        del patches, result


def _part(row: pa.Table) -> Part:
    from sep_batch.model.parts import Part

    return Part(payload(row), value(row, "skip"), value(row, "samples"))


def _mix(part: Part, begin: int, samples: int) -> Tensor:
    """Return samples of a part's own before they are separated, (channels, samples) float32."""
    import torch

    from sep_batch.model.parts import float_wave

    own = part.payload[part.skip + begin : part.skip + begin + samples]
    return float_wave(torch.from_numpy(np.require(own, requirements="W"))).transpose(0, 1)  # the object store's are read-only


def _with_energy(row: pa.Table, energy: float, above_f: float) -> pa.Table:
    return fill(row, PART, energy=energy, energy_above_f=above_f, above_f_db=ratio_db(above_f, energy))
