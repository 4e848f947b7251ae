"""The state of a run: progress, speed, bottleneck, time left. Arithmetic on a clock, without output.

The summary has the counts. Speed and time left are known from the first finished track on. They count the time since the
first tracks were under way, because the start of Ray and of its actors would distort them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.progress.bottleneck import LEAST_AUDIO_S, bottleneck, busy_shares
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.setup.stop import DRAIN_S
from sep_batch.jobs.setup.units import audio_length, clock

RECENT_S = 300.0  # window of the rate behind the time left
POINT_S = 1.0  # seconds between two points of that window


@dataclass(frozen=True)
class Tracks:
    """A set of tracks: the seconds of those with a duration in the manifest, and the number of the others."""

    known_s: float = 0.0
    unknown: int = 0

    def __add__(self, other: Tracks) -> Tracks:
        return Tracks(self.known_s + other.known_s, self.unknown + other.unknown)

    def __sub__(self, other: Tracks) -> Tracks:
        return Tracks(self.known_s - other.known_s, self.unknown - other.unknown)

    def seconds(self, mean_s: float) -> float:
        """Return their seconds of audio, with `mean_s` for each unknown duration."""
        return self.known_s + self.unknown * mean_s


class RunState:
    """State of a run.

    Attributes:
        summary: Counts of the run.
        todo: Number of tracks to do.
        settings_sha256: Checksum of the run's settings.
        waits_for: Step that the run waits for before its first track is finished.
        steps_s: Seconds of the steps before that one.
        stopping: Reason of an early end; None without one.
        began_at, ended_at: Times of begin and end of the command, in seconds since 1970; the end is None before it.
        exit_code: Exit code of the command, once it has ended.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the clock, in seconds."""
        self.summary = Summary(out="", tracks=0)
        self.todo = 0
        self.settings_sha256 = ""
        self.waits_for = "reading the manifest"
        self.steps_s = dict[str, float]()
        self.stopping: str | None = None
        self.began_at = time.time()
        self.ended_at: float | None = None
        self.exit_code = 0
        self._clock = clock
        self._begun = self._started = self._step_begun = clock()
        self._planned = self._finished = Tracks()
        self._points: deque[tuple[float, Tracks]] = deque([(self._begun, Tracks())])

    def plan(self, summary: Summary, durations_s: pa.ChunkedArray) -> None:
        """Take the tracks to do.

        Args:
            summary: Counts of the run, still zero.
            durations_s: Duration of each track in seconds; null if the manifest has none.
        """
        self.summary, self.todo = summary, len(durations_s)
        self._planned = Tracks(pc.sum(durations_s).as_py() or 0.0, durations_s.null_count)

    def start(self, settings_sha256: str) -> None:
        """Record the start of the flow, and the checksum of its settings."""
        self.settings_sha256 = settings_sha256
        self._started = self._clock()
        self._points = deque([(self._started, Tracks())])

    def end(self, exit_code: int) -> None:
        """Record the end of the command."""
        self.exit_code, self.ended_at = exit_code, time.time()

    def wait_for(self, step: str) -> None:
        """Record the step that the run waits for."""
        if step != self.waits_for:
            self._end_step()
            self.waits_for = step

    def _end_step(self) -> None:
        now, name = self._clock(), self.waits_for.partition(":")[0]  # behind a colon are numbers
        self.steps_s[name] = self.steps_s.get(name, 0.0) + now - self._step_begun
        self._step_begun = now

    def take(self, duration_s: float | None) -> None:
        """Count one finished track towards the time left; its duration is the manifest's."""
        if not self.summary.start:
            self._end_step()
            self.summary.start = self.steps_s
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
        """Seconds left at the recent rate of audio, with the mean for unknown durations; None before there is a rate."""
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
        """Share of `worked_s` that each stage's actors were busy, counting finished tracks only."""
        return busy_shares(self.summary.stage_s, self.summary.actors, self.worked_s)

    @property
    def bottleneck(self) -> str | None:
        """Stage that limits the run; None if no stage does."""
        return bottleneck(self.busy, self.summary.device)

    @property
    def doing(self) -> str:
        """Current activity in words: the step that the run waits for, or its bottleneck."""
        if self.stopping:
            return f"{self.stopping}: tracks in flight have {DRAIN_S:.0f} s to finish; another signal ends the run at once"
        if not self.summary.tried:
            return f"{self.waits_for}, {clock(self.elapsed_s)} so far"
        if self.summary.audio_s < LEAST_AUDIO_S:
            return "separating"
        stage = self.bottleneck
        return f"bottleneck: {stage}, busy {100 * self.busy[stage]:.0f} % of the time" if stage else "no single bottleneck"

    @property
    def counts(self) -> str:
        """Tracks and failed tracks; from the first finished track on, also hours of audio, x real time, time left."""
        done = f"{self.summary.tried}/{self.todo} tracks, {self.summary.failed.total()} failed"
        if self.x_real_time is None:
            return done
        left = "-" if self.eta_s is None else clock(self.eta_s)
        return f"{done}, {audio_length(self.summary.audio_s)} of audio, {self.x_real_time:.1f} x real time, ETA {left}"

    def lines(self) -> list[str]:
        """Return the state in words, one or two lines."""
        return [self.counts, self.doing] if self.todo else [self.doing]

    @property
    def _first_s(self) -> float:
        """Time of the clock at which the first tracks were under way."""
        return self._started + self.summary.start_s
