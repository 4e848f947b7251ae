"""Runs that are killed at random while they work, and run again until they end by themselves.

A run is live from its first journal row to its end; kills fall there, and on what is left to do. `Killed.hits` says what was hit,
and how many tracks had no row then, so that a test can prove that live work was hit.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
from catalogs import finished

from sep_batch.pipeline import errors

TARGETS = ("driver", "worker", "raylet", "term")
ONE_RUN = Path(__file__).parent / "one_run.py"
LONGEST_RUN_S = 300
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")  # outlive a killed driver by minutes, and do nothing of a run's
MOST_RUNS = 12


@dataclass
class Hit:
    """One kill: of what, in which run, and how many tracks had no row yet."""

    target: str
    run: int
    pending: int


@dataclass
class Killed:
    """What became of a catalog whose runs were killed."""

    hits: list[Hit] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    told: str = ""


class Victim:
    """A run in a session of its own, whose processes can be killed one by one."""

    def __init__(self, options: dict[str, object], log: Path, environment: dict[str, str] | None = None) -> None:
        self._log = log.open("ab")
        self.popen = subprocess.Popen(
            [sys.executable, str(ONE_RUN), json.dumps(options)],
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._below: dict[int, psutil.Process] = {}

    def __enter__(self) -> Self:
        """Return the run."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing of the run alive, however the test ended."""
        self.below()
        if self.popen.poll() is None:
            self.popen.kill()
            self.end()

    def below(self) -> dict[int, psutil.Process]:
        """Return all processes that ever were below the run and still live."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._below |= {one.pid: one for one in psutil.Process(self.popen.pid).children(recursive=True)}
        self._below = {pid: one for pid, one in self._below.items() if one.is_running()}
        return self._below

    def named(self, *words: str) -> list[psutil.Process]:
        """Return the processes below whose command line holds one of the words."""
        return [one for one in self.below().values() if any(word in line_of(one) for word in words)]

    def kill(self, target: str, drawn: random.Random) -> bool:
        """Kill one target; tell whether there was one."""
        if target == "driver":
            self.below()
            self.popen.kill()
            self.end()
            return True
        if target == "term":
            self.popen.send_signal(signal.SIGTERM)
            return True
        victims = self.named("MapWorker(MapBatches(") if target == "worker" else self.named("raylet/raylet")
        if not victims:
            return False
        drawn.choice(victims).kill()
        return True

    def end(self) -> int:
        """Wait for the end of the run, and see that nothing of it lives on."""
        try:
            code = self.popen.wait(LONGEST_RUN_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            code = -1
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            lines = [line_of(one) for one in self.below().values()]
            if all(not line or line.startswith(AGENTS) for line in lines):
                break
            time.sleep(0.1)
        for one in self.below().values():
            one.kill()
        self._log.close()
        return code


def line_of(one: psutil.Process) -> str:
    """Return a process's command line, nothing where it has ended."""
    try:
        return " ".join(one.cmdline())
    except psutil.Error:
        return ""


def run_killed(
    options: dict[str, object],
    tracks: int,
    *,
    kills: int,
    drawn: random.Random,
    log: Path,
) -> Killed:
    """Run a catalog to its end through so many kills.

    Args:
        options: Of `one_run.py`.
        tracks: In the catalog.
        kills: How many; at most three a run, and none in the last.
        drawn: What is killed, and when.
        log: Takes what the runs say.
    """
    killed = Killed()
    for number in range(MOST_RUNS):
        with Victim(options, log) as victim:
            for pending in _live(victim, str(options["out"]), tracks, drawn):
                left = kills - len(killed.hits)
                of_this_run = sum(hit.run == number for hit in killed.hits)
                if not left or of_this_run == 3:
                    break
                target = drawn.choice(TARGETS)
                if victim.kill(target, drawn):
                    killed.hits.append(Hit(target, number, pending))
            killed.codes.append(victim.end())
        if killed.codes[-1] == 0:
            break
    killed.told = log.read_text(errors="replace")[-4000:]
    return killed


def _live(victim: Victim, out: str, tracks: int, drawn: random.Random) -> Iterator[int]:
    """Yield at random moments while the run has work and some tracks have no row: how many have none."""
    before = pending(out, tracks)
    while victim.popen.poll() is None:
        victim.below()
        left = pending(out, tracks)
        if 0 < left < before or (left and victim.named("MapBatches(Write))")):
            time.sleep(drawn.uniform(0, 1.5))
            left = pending(out, tracks)
            if left and victim.popen.poll() is None:
                yield left
        time.sleep(0.1)


def pending(out: str, tracks: int) -> int:
    """Return how many tracks have no row yet."""
    try:
        return tracks - len(finished(out))
    except errors.TrackError:
        return tracks
