"""The difference between two files of one stem, decoded block by block; none is held whole beyond 64 MB of its file."""

from __future__ import annotations

import math
from typing import NamedTuple

from sep_batch.pipeline import errors
from sep_batch.pipeline.scoring.aligned import aligned
from sep_batch.pipeline.scoring.stem_file import StemFile
from sep_batch.pipeline.scoring.sums import Sums


class Difference(NamedTuple):
    """Difference of two files, or the reason why there is none.

    Attributes:
        snr_db: Energy of A over energy of A - B, in dB; infinite where they are equal, minus infinite where only A is silent.
        level_db: RMS level of B minus that of A, in dB; infinite where only one is silent.
        finding: Kind of the finding, one of `report.KINDS`; None without one.
        detail: Description of the finding.
    """

    snr_db: float | None = None
    level_db: float | None = None
    finding: str | None = None
    detail: str | None = None


def difference(a: StemFile, b: StemFile) -> Difference:
    """Compare two files of one stem; A is the reference.

    Raises:
        StorageUnusable: The storage as a whole is unusable.
    """
    for kind, ours, theirs, unit in (
        ("sample_rate", a.rate_hz, b.rate_hz, "Hz"),
        ("channels", a.channels, b.channels, "channels"),
        ("length", a.frames, b.frames, "samples"),
    ):
        if None not in (ours, theirs) and ours != theirs:
            return Difference(finding=kind, detail=f"{ours} {unit} in OUT_A, {theirs} in OUT_B")
    try:
        sums = _sums(a, b)
    except errors.StorageUnusable:
        raise
    except errors.TrackError as error:
        return Difference(finding="unreadable", detail=errors.one_line(str(error)))
    if not sums.reference and not sums.other:
        return Difference(math.inf, 0.0)
    silent = "OUT_A" if not sums.reference else "OUT_B" if not sums.other else None
    detail = silent and f"silent in {silent} only"
    return Difference(sums.snr_db, sums.level_db, silent and "silent_in_one", detail)


def _sums(a: StemFile, b: StemFile) -> Sums:
    sums = Sums()
    with a.decoded() as ours, b.decoded() as theirs:
        for blocks in aligned((ours, theirs)):
            sums.add(*blocks)
    return sums
