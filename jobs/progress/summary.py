"""The result of a run: counts, seconds, and the exit code."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sep_batch.jobs.progress.bottleneck import COLUMNS, busy_shares, sentence
from sep_batch.jobs.setup.options import MaxFailures
from sep_batch.pipeline import errors

STEMS_SHOWN_OF = 10  # tracks
NEVER_JUDGED_BELOW = 20  # finished tracks; with fewer, --max-failures does not apply


@dataclass
class Summary:
    """Result of a run, and its exit code.

    Attributes:
        out: OUT.
        run: Name of the run; None if there was nothing to do.
        tracks: Number of tracks in the manifest.
        done_before: Tracks among them that were ok already.
        known_failed: Tracks among them that failed before and were not tried again.
        withdrawn: Tracks among them that were withdrawn, and are not separated.
        ok: Tracks separated in this run.
        ok_damaged: Tracks among them that are truncated or have broken packets.
        ok_lacking_tags: Tracks among them whose stems lack tags or the cover of the source, by `tags_warning`.
        stems: URIs of the stems of the first `STEMS_SHOWN_OF` tracks, relative to OUT.
        failed: Tracks failed in this run, by error class.
        audio_s: Seconds of audio separated in this run.
        seconds: Seconds of the flow, the start of its actors included.
        start: Seconds of each step before the first track was finished, by its words in the progress; empty if none was.
        start_s: Seconds among `seconds` that the start of the workers took.
        job_s: Seconds of the whole job, from reading the manifest to the published index; 0 before its end.
        forecast_s: Seconds that `plan --calibrate` forecast for this run; None without a forecast.
        exit_code: Exit code of the command.
        stopped: Reason of an early end; None without one.
        warnings: Warnings, a line each.
        vanished: Ids of tracks of OUT whose source is no longer in the folder that is run; their stems stay.
        stage_s: Seconds of work of each stage, over the tracks of this run.
        engine: Engine of the run, `local` or `ray`; empty if nothing was separated.
        actors: Largest number of workers of each stage.
        device: Torch's name of the device that the U-Nets ran on.
        format: File format of the stems.
        stats: The engine's own statistics of the stages, if it has any.
        ray_logs: Folder of Ray's logs; None if there are none.
    """

    out: str
    tracks: int
    run: str | None = None
    done_before: int = 0
    known_failed: int = 0
    withdrawn: int = 0
    ok: int = 0
    ok_damaged: int = 0
    ok_lacking_tags: int = 0
    stems: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    audio_s: float = 0.0
    seconds: float = 0.0
    start: dict[str, float] = field(default_factory=dict)
    start_s: float = 0.0
    job_s: float = 0.0
    forecast_s: float | None = None
    exit_code: int = 0
    stopped: str | None = None
    warnings: tuple[str, ...] = ()
    vanished: list[str] = field(default_factory=list)
    stage_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0.0))
    engine: str = ""
    actors: dict[str, int] = field(default_factory=dict)
    device: str = ""
    format: str = ""
    stats: str = ""
    ray_logs: str | None = None

    @property
    def tried(self) -> int:
        """Tracks that were tried in this run, ok or not, without bad rows of the manifest."""
        return self.ok + self.failed.total() - self.bad_rows

    @property
    def bad_rows(self) -> int:
        """Rows of the manifest that failed in this run because they name no track."""
        return self.failed[errors.BadRow.error_class]

    def count(self, status: str, error_class: str | None, audio_s: float, *, is_damaged: bool = False) -> None:
        """Count one finished row; one that is ok may be damaged too: truncated, or with broken packets."""
        if status == "ok":
            self.ok += 1
            self.ok_damaged += is_damaged
            self.audio_s += audio_s
        else:
            self.failed[error_class or errors.BUG] += 1

    def spend(self, row: Mapping[str, Any]) -> None:
        """Add the seconds of each stage for one finished row."""
        for stage, column in COLUMNS.items():
            self.stage_s[stage] += row[column] or 0.0

    @property
    def bottleneck(self) -> str | None:
        """Sentence with the bottleneck and its remedy; None if nothing was done."""
        wall_s = self.seconds - self.start_s
        return sentence(self.stage_s, self.actors, wall_s, device=self.device, format=self.format)

    @property
    def spilled_bytes(self) -> int:
        """Bytes of this run that Ray wrote to its disk because its object store was full, as its statistics have them."""
        return 10**6 * sum(map(int, re.findall(r"Dataset memory:\n\* Spilled to disk: (\d+)MB", self.stats)))

    def judge(self, max_failures: MaxFailures, *, ok_with_failures: bool) -> None:
        """Set the exit code of a run that has come to its end."""
        ended, failed = self.tried + self.bad_rows, self.failed.total()
        if self.exit_code or not failed or self._stop_if_over(max_failures, failed, ended, NEVER_JUDGED_BELOW):
            return
        if not ok_with_failures:
            self.exit_code = errors.SOME_FAILED

    def stop_if_over(self, max_failures: MaxFailures, *, from_tracks: int) -> bool:
        """Stop the run if too many of the tracks tried have failed; with fewer than `from_tracks` tried, never.

        Bad rows do not count: they fail before the first track is tried, and do not predict how the others will do.
        """
        return self._stop_if_over(max_failures, self.failed.total() - self.bad_rows, self.tried, from_tracks)

    def _stop_if_over(self, max_failures: MaxFailures, failed: int, ended: int, from_tracks: int) -> bool:
        if ended < from_tracks or not max_failures.is_exceeded(failed, ended):
            return False
        self.stopped = f"over --max-failures: {failed} of {ended} tracks failed"
        self.exit_code = errors.OVER_MAX_FAILURES
        return True

    def as_dict(self) -> dict[str, Any]:
        """Return the fields without `stats`, and with the spilled bytes, the busy shares and the bottleneck."""
        fields = {name: value for name, value in vars(self).items() if name != "stats"}
        busy = busy_shares(self.stage_s, self.actors, self.seconds - self.start_s)
        return fields | {"spilled_bytes": self.spilled_bytes, "busy": busy, "bottleneck": self.bottleneck}

    def to_json(self) -> str:
        """Return `as_dict` as one line of JSON."""
        return json.dumps(self.as_dict())
