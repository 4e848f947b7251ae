"""Context of a run, for every stage: settings, paths, limits; and the URIs and columns of stems."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import pyarrow as pa

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.audio.damage import OnDamage
from sep_batch.pipeline.rows import value
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.machine_requirements import MachineRequirements
from sep_batch.pipeline.storage import Options

Stft = Literal["auto", "cpu", "gpu"]  # stage that computes the STFT: Analyze, or Separate; auto: Separate where it is on a GPU
LIMIT_S = 600.0
LOOK_S = 2.0  # between two checks for the object that stops a run


def stft_stage(chosen: str, *, on_gpu: bool, needs_wave: bool = False) -> str:
    """Return the stage that computes the STFT, `cpu` or `gpu`.

    Args:
        chosen: One of `Stft`.
        on_gpu: The U-Nets run on a GPU.
        needs_wave: Separate needs the wave, so it computes the STFT itself.
    """
    if needs_wave:
        return "gpu"
    return ("gpu" if on_gpu else "cpu") if chosen == "auto" else chosen


class FlowEndedError(Exception):
    """Nobody waits for the row at work any more; the failed row that it becomes is dropped."""


@dataclass(frozen=True)
class RunContext:
    """Context of a run, for every stage.

    Attributes:
        settings: Settings of the run.
        out: OUT's folder or prefix.
        run: Name of the run.
        parts: Folder or prefix for the parts of long tracks, in OUT.
        scratch: Folder of each machine for temporary files; where OUT is on a disk, on the same one.
        limit_s: Time limit for one part of a track in one stage, in seconds.
        stft: Stage that computes the STFT: `cpu` is Analyze, on a CPU; `gpu` is Separate, on its device.
        on_damage: `keep` flags a damaged track; `fail` fails it.
        analysis: Stems are analyzed: levels, active regions, width; and that they add up to the mix.
        storage: Options of the storage clients; they may hold secrets, so they are never shown.
        machine: Requirements of the machines of the stages.
        marked: Ids of the tracks whose stems' paths have a mark, because other tracks have the paths without it.
        has_ended: Where the stages share the driver's process: tells a stage that its flow has ended, or that it was over the
            time limit, so that what it still yields is dropped. None where each stage has a process of its own.
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
    marked: frozenset[str] = frozenset()
    has_ended: Callable[[], bool] | None = None

    @property
    def has_waves(self) -> bool:
        """Parts travel as waves, of which Separate computes the spectrum."""
        return stft_stage(self.stft, on_gpu=False, needs_wave=self.settings.needs_wave) == "gpu"

    @property
    def tests_null(self) -> bool:
        """The mix minus the stems is measured: all stems of the model are separated."""
        return self.analysis and set(self.settings.stems) == set(self.settings.spec.stems)

    @property
    def stop_uri(self) -> str:
        """URI of the object that, once it exists, stops the stages from beginning further tracks."""
        return f"{self.parts}/stop"

    def is_stopping(self) -> bool:
        """Tell whether the stages shall begin no further track; storage is checked every `LOOK_S` seconds only."""
        return _exists(self.stop_uri, int(time.monotonic() / LOOK_S))

    def refuse_ended(self) -> None:
        """Raise where nobody waits for the row at work any more.

        Raises:
            FlowEndedError: The flow has ended, or has left this worker behind.
        """
        if self.has_ended is not None and self.has_ended():
            raise FlowEndedError

    def stem_uri(self, row: pa.Table, stem: str) -> str:
        """Return the URI of a track's stem, relative to OUT."""
        id = value(row, "id")
        return self.settings.stem_path(id, value(row, "uri"), stem, is_marked=id in self.marked)

    def stem(self, measured: dict[str, Any], *, uri: str, size: int, sha256: str) -> dict[str, Any]:
        """Return one stem's entry in a track's row, from its measurements."""
        settings = self.settings
        return {
            **measured,
            "uri": uri,
            "codec": settings.codec.encoder,
            "bytes": size,
            "sha256": sha256,
            "frames": settings.written_frames(measured["frames"]),
            "sample_rate_hz": settings.written_rate_hz,
            "channels": settings.written_channels,
        }


@lru_cache(maxsize=1)
def _exists(uri: str, _time: int) -> bool:
    try:
        return storage.exists(uri)
    except errors.TrackError:  # unknown at this moment
        return False
