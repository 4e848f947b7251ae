"""Where a run stands: how far it is, how fast, what holds it up, when it will be done. Arithmetic on a clock; shows nothing.

The counts themselves are the summary's. Speed and time left are told from the first finished track on, and of the time since the
first tracks were under way: the start of Ray and of its actors says nothing about them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.progress.bottleneck import bottleneck, busy_shares
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.setup.stop import DRAIN_S

RECENT_S = 300.0  # what the time left is told from
POINT_S = 1.0  # between two points of it


@dataclass(frozen=True)
class Tracks:
    """Some tracks: the seconds of those whose duration the manifest names, and how many the others are."""

    known_s: float = 0.0
    unknown: int = 0

    def __add__(self, other: Tracks) -> Tracks:
        return Tracks(self.known_s + other.known_s, self.unknown + other.unknown)

    def __sub__(self, other: Tracks) -> Tracks:
        return Tracks(self.known_s - other.known_s, self.unknown - other.unknown)

    def seconds(self, mean_s: float) -> float:
        """Return their seconds of audio, taking the unknown ones as so long each."""
        return self.known_s + self.unknown * mean_s


class RunState:
    """Where a run stands.

    Attributes:
        summary: Counts of the run.
        todo: Tracks that it has to do.
        settings_sha256: Of what it makes.
        waits_for: The step that the run waits for before its first track is finished.
        stopping: Why it is ending early, if it is.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the clock, in seconds."""
        self.summary = Summary(out="", tracks=0)
        self.todo = 0
        self.settings_sha256 = ""
        self.waits_for = "reading the manifest"
        self.stopping: str | None = None
        self._clock = clock
        self._begun = self._started = clock()
        self._planned = self._finished = Tracks()
        self._points: deque[tuple[float, Tracks]] = deque([(self._begun, Tracks())])

    def plan(self, summary: Summary, durations_s: pa.ChunkedArray) -> None:
        """Take what the run has to do.

        Args:
            summary: Counts of the run, still zero.
            durations_s: Duration of each track, null where the manifest does not say.
        """
        self.summary, self.todo = summary, len(durations_s)
        self._planned = Tracks(pc.sum(durations_s).as_py() or 0.0, durations_s.null_count)

    def start(self, settings_sha256: str) -> None:
        """Say that the flow starts, and what it makes."""
        self.settings_sha256 = settings_sha256
        self._started = self._clock()
        self._points = deque([(self._started, Tracks())])

    def take(self, duration_s: float | None) -> None:
        """Count one finished track towards the time left; its duration is the manifest's."""
        now = self._clock()
        self._finished += Tracks(0.0, 1) if duration_s is None else Tracks(duration_s, 0)
        if now - self._points[-1][0] >= POINT_S:
            self._points.append((now, self._finished))
        while len(self._points) > 2 and self._points[1][0] < now - RECENT_S:
            self._points.popleft()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the command began."""
        return self._clock() - self._begun

    @property
    def worked_s(self) -> float:
        """Seconds since the first tracks were under way; 0 before the first is finished."""
        return max(0.0, self._clock() - self._first_s) if self.summary.tried else 0.0

    @property
    def x_real_time(self) -> float | None:
        """Seconds of audio separated in a second; None before the first track is finished."""
        return self.summary.audio_s / self.worked_s if self.worked_s else None

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the recent rate, in audio where durations are known; None where there is no rate yet."""
        if not self.summary.tried:
            return None
        mean_s = self.summary.audio_s / self.summary.ok if self.summary.ok and self.summary.audio_s else 1.0
        at, before = self._points[0]
        passed = self._clock() - max(at, self._first_s)
        rate = (self._finished - before).seconds(mean_s) / passed if passed > 0 else 0.0
        left = max(0.0, (self._planned - self._finished).seconds(mean_s))
        return left / rate if rate > 0 else None

    @property
    def busy(self) -> dict[str, float]:
        """How much of that time each stage's actors were at work, in tracks that are finished."""
        return busy_shares(self.summary.stage_s, self.summary.actors, self.worked_s)

    @property
    def held_up_by(self) -> str | None:
        """The stage that holds the run up, if one does."""
        return bottleneck(self.busy, self.summary.device)

    @property
    def doing(self) -> str:
        """What the run does now, in words: what it waits for, or what holds it up."""
        if self.stopping:
            return f"{self.stopping}: what is in flight has {DRAIN_S:.0f} s; another signal ends it at once"
        if not self.summary.tried:
            return f"{self.waits_for}, {_clock_time(self.elapsed_s)} so far"
        stage = self.held_up_by
        return f"held up by {stage}, busy {100 * self.busy[stage]:.0f} % of the time" if stage else "no stage holds it up"

    @property
    def counts(self) -> str:
        """Tracks, failed, and once there is any: hours of audio, x real time, the time left."""
        done = f"{self.summary.tried}/{self.todo} tracks, {self.summary.failed.total()} failed"
        if self.x_real_time is None:
            return done
        left = "-" if self.eta_s is None else _clock_time(self.eta_s)
        return f"{done}, {self.summary.audio_s / 3600:.2f} h, {self.x_real_time:.1f} x real time, ETA {left}"

    def lines(self) -> list[str]:
        """Return all of it in words."""
        return [self.counts, self.doing] if self.todo else [self.doing]

    @property
    def _first_s(self) -> float:
        """When the first tracks were under way, by the clock."""
        return self._started + self.summary.start_s


def _clock_time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
