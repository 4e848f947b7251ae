"""Speed, time left and what holds a run up, on a clock of our own."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sep_batch.jobs.progress.run_state import RECENT_S, RunState
from sep_batch.jobs.progress.summary import Summary


class Run:
    """A run whose clock and tracks the test moves."""

    def __init__(self, durations_s, start_s=0.0):
        self.now = 100.0
        self.standing = RunState(lambda: self.now)
        self.summary = Summary("out", len(durations_s), run="r", device="cuda", actors=dict.fromkeys(("Analyze", "Separate"), 1))
        self.standing.plan(self.summary, pa.chunked_array([pa.array(durations_s, pa.float64())]))
        self.standing.start("sha")
        self.now += start_s
        self.summary.start_s = start_s

    def finish(self, audio_s, after_s, duration_s=None, status="ok"):
        self.now += after_s
        self.summary.count(status, None if status == "ok" else "decode_error", audio_s)
        self.standing.take(duration_s)


def test_before_the_first_track_nothing_is_said_of_speed_and_time_left_only_what_is_waited_for():
    run = Run([None] * 3)
    run.standing.wait_for("loading the model")
    run.now += 75
    assert run.standing.lines() == ["0/3 tracks, 0 failed", "loading the model, 0:01:15 so far"]
    assert (run.standing.x_real_time, run.standing.eta_s, run.standing.busy) == (None, None, {})


def test_the_seconds_of_each_step_up_to_the_first_finished_track_are_in_the_summary():
    run = Run([None] * 3)
    run.now += 2
    run.standing.wait_for("loading the model")
    run.now += 3
    run.standing.wait_for("first tracks under way")
    run.standing.wait_for("first tracks under way")
    assert run.summary.start == {}
    run.finish(audio_s=100, after_s=4)
    run.finish(audio_s=100, after_s=50)
    assert run.summary.start == {"reading the manifest": 2.0, "loading the model": 3.0, "first tracks under way": 4.0}


def test_before_the_tracks_are_known_one_line_says_what_is_read():
    standing = RunState(lambda: 0.0)
    assert standing.lines() == ["reading the manifest, 0:00:00 so far"]


def test_the_start_of_the_actors_makes_a_run_no_slower():
    run = Run([None] * 4, start_s=60)
    run.finish(audio_s=100, after_s=10)
    assert run.standing.x_real_time == pytest.approx(10)
    assert run.standing.eta_s == pytest.approx(30)


def test_time_left_goes_by_audio_where_the_manifest_names_durations():
    run = Run([10.0, 10.0, 1000.0])
    run.finish(10, after_s=1, duration_s=10.0)
    run.finish(10, after_s=1, duration_s=10.0)
    assert run.standing.eta_s == pytest.approx(100)


def test_tracks_of_unknown_duration_are_taken_as_long_as_the_others_were():
    run = Run([10.0, None, None])
    run.finish(10, after_s=2, duration_s=10.0)
    assert run.standing.eta_s == pytest.approx(4)


def test_time_left_forgets_a_slow_beginning_and_grows_while_nothing_is_finished():
    run = Run([None] * 1000)
    for _ in range(10):
        run.finish(10, after_s=60)
    for _ in range(int(2 * RECENT_S)):
        run.finish(10, after_s=1)
    left = 1000 - 10 - 2 * RECENT_S
    assert run.standing.eta_s == pytest.approx(left, rel=0.02)
    run.now += RECENT_S
    assert run.standing.eta_s == pytest.approx(2 * left, rel=0.02)


def test_after_tracks_that_take_longer_than_the_memory_there_still_is_a_rate():
    run = Run([None] * 4)
    run.finish(3600, after_s=900)
    run.finish(3600, after_s=900)
    assert run.standing.eta_s == pytest.approx(1800)


def test_only_failures_give_a_time_left_and_no_speed():
    run = Run([None] * 4)
    run.finish(0, after_s=5, status="failed")
    assert run.standing.x_real_time == 0
    assert run.standing.eta_s == pytest.approx(15)
    assert run.standing.counts == "1/4 tracks, 1 failed, 0.0 s of audio, 0.0 x real time, ETA 0:00:15"


def test_the_stage_that_holds_things_up_is_named_with_how_busy_it_is():
    run = Run([None] * 2)
    run.finish(299, after_s=10)
    assert run.standing.doing == "separating"  # of so little audio no bottleneck is worth a remedy
    run.finish(1, after_s=0)
    assert run.standing.doing == "no single bottleneck"
    run.summary.stage_s |= {"Analyze": 2.0, "Separate": 9.0}
    assert run.standing.doing == "bottleneck: Separate, busy 90 % of the time"
    assert run.standing.busy == pytest.approx({"Analyze": 0.2, "Separate": 0.9})


def test_a_run_that_is_stopping_says_so_and_how_long_it_takes():
    run = Run([None] * 2)
    run.standing.stopping = "stopped by SIGINT"
    assert run.standing.doing == "stopped by SIGINT: tracks in flight have 25 s to finish; another signal ends the run at once"
