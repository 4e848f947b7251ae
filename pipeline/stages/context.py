"""Settings and places that every stage of a run is given, and the names of stems."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa

from sep_batch.pipeline import errors, stem_paths, storage
from sep_batch.pipeline.audio.damage import OnDamage
from sep_batch.pipeline.rows import value
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements
from sep_batch.pipeline.storage import Options

Stft = Literal["cpu", "gpu"]  # who does the STFT
LIMIT_S = 600.0
LOOK_S = 2.0  # between two looks for the mark that stops a run


@dataclass(frozen=True)
class RunContext:
    """What every stage of a run is told.

    Attributes:
        settings: Settings of the run.
        out: OUT.
        run: The run's name.
        parts: Folder or prefix for the parts of long tracks, in OUT.
        scratch: Folder of this machine for temporary files; where OUT is on a disk, on the same one.
        limit_s: How long a stage may be at work on one part of a track.
        stft: Stage that computes the STFT: Analyze, on a CPU, or Separate, on its device.
        on_damage: Whether a track of which not all came out is kept and flagged, or fails.
        analysis: Whether stems are analysed: their levels, where they are active, how wide they are.
        storage: How storage is reached; it may hold secrets, so it is never shown.
        machine: Requirements of the machines of the stages.
    """

    settings: Settings
    out: str
    run: str
    parts: str
    scratch: str
    limit_s: float = LIMIT_S
    stft: str = "cpu"
    on_damage: OnDamage = "keep"
    analysis: bool = True
    storage: Options = field(default_factory=dict, repr=False)
    machine: MachineRequirements = field(default_factory=MachineRequirements)

    @property
    def stop_uri(self) -> str:
        """The object whose being there asks the stages to take nothing in any more."""
        return f"{self.parts}/stop"

    def is_stopping(self) -> bool:
        """Tell whether the stages shall take nothing in any more; asked of storage every few seconds only."""
        return _looked(self.stop_uri, int(time.monotonic() / LOOK_S))

    def stem_uri(self, row: pa.Table, stem: str) -> str:
        """Return where a track's stem goes, relative to OUT."""
        path = stem_paths.render(self.settings.filename, value(row, "id"), value(row, "uri"), stem, self.settings.format)
        return f"stems/{path}"

    def stem(self, measured: dict[str, Any], *, uri: str, size: int, sha256: str, lufs: float | None) -> dict[str, Any]:
        """Return what a track's row says of one stem, from what `Stems` measured."""
        settings = self.settings
        return {
            **measured,
            "uri": uri,
            "codec": settings.codec.encoder,
            "bytes": size,
            "sha256": sha256,
            "frames": settings.written_frames(measured["frames"]),
            "lufs": lufs,
            "sample_rate_hz": settings.written_rate_hz,
            "channels": settings.written_channels,
        }


@lru_cache(maxsize=1)
def _looked(uri: str, _time: int) -> bool:
    try:
        return storage.exists(uri)
    except errors.TrackError:  # not to be known now
        return False
