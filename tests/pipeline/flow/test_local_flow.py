"""The flow in threads of this process: what comes out, what stays in memory, what becomes of workers that fail or hang."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from catalogs import write_tone

from sep_batch.jobs.run.run import run_job
from sep_batch.model.spec import PRESETS
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.flow import local_flow, workers
from sep_batch.pipeline.flow.resources import Pool, Resources
from sep_batch.pipeline.out import index
from sep_batch.pipeline.out.plan import write_plan
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import separate, time_limit
from sep_batch.pipeline.stages.context import RunContext

TRACKS = 40


class Passing:
    """A stage that passes its blocks on."""

    def __init__(self, work, *_, **__):
        self.work = work

    def __call__(self, block):
        yield block


class Finishing(Passing):
    """A stage whose rows are finished."""

    def __call__(self, block):
        yield block.append_column("status", pa.repeat("ok", block.num_rows))


@pytest.fixture
def flow_of(monkeypatch, tmp_path):
    """Build a flow over a plan, from the stages that are given; the others pass on what comes."""
    flows = []

    def build(analyze=Passing, separate=Passing, write=Finishing, *, workers=2, tracks=TRACKS, limit_s=60.0):
        for name, stage in (("Analyze", analyze), ("Separate", separate), ("Write", write)):
            monkeypatch.setattr(local_flow, name, stage)
        plan = [pa.table({"id": [f"t{number}" for number in range(tracks)]})]
        files = write_plan(plan, storage.put, str(tmp_path / "plan"), rows_per_file=7)
        settings = Settings(weights_sha256="f" * 64, spec=PRESETS["spleeter:2stems"], stems=("vocals", "accompaniment"))
        work = RunContext(settings, str(tmp_path), "000001-0000", str(tmp_path), str(tmp_path), limit_s=limit_s)
        resources = Resources(*(Pool(workers, 1) for _ in range(3)), "cpu")
        flows.append(local_flow.LocalFlow(files, work, ".", resources))
        return flows[-1]

    yield build
    for flow in flows:
        flow.stop()


def has_ended(threads):
    """Wait until no more threads are alive than there were."""
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    return threading.active_count() <= threads


def watch_on(flow):
    """Watch a flow until that raises an error."""
    while True:
        flow.watch()
        time.sleep(0.05)


def ids(rows):
    return sorted(int(row.column("id")[0].as_py()[1:]) for row in rows)


def test_each_track_comes_out_once_and_the_threads_end(flow_of):
    before = threading.active_count()
    assert ids(flow_of(workers=3).rows()) == list(range(TRACKS))
    assert has_ended(before)


def test_no_stage_is_more_than_a_few_rows_ahead_of_the_next(flow_of):
    lock, alive, most = threading.Lock(), [0], [0]

    class Counting(Passing):
        def __call__(self, block):
            with lock:
                alive[0] += 1
                most[0] = max(most[0], alive[0])
            yield block

    class Slow(Passing):
        def __call__(self, block):
            time.sleep(0.01)
            with lock:
                alive[0] -= 1
            yield block

    assert len(list(flow_of(Counting, Slow, workers=1).rows())) == TRACKS
    assert most[0] <= 4  # one at each stage, one queued, one that its worker holds


def test_a_worker_over_the_time_limit_is_left_behind_and_only_its_track_is_missing(flow_of, tmp_path, caplog):
    freed = threading.Event()

    class Hanging(Passing):
        def __call__(self, block):
            if block.column("id")[0].as_py() == "t11":
                freed.wait(30)
            yield block

    flow = flow_of(separate=Hanging, workers=1, limit_s=0.3)
    watched = threading.Event()

    def watch():
        while not watched.wait(0.05):
            flow.watch()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        assert ids(flow.rows()) == [number for number in range(TRACKS) if number != 11]
    finally:
        watched.set()
        freed.set()
        thread.join()
    deadline = time.monotonic() + 5
    while not time_limit.was_over("t11", flow._work):  # a thread stores the mark
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert caplog.messages == ["t11 took over 0.3 s in Separate, the time limit"]


@pytest.mark.parametrize(
    ("planted", "raised", "message"),
    [
        (RuntimeError("no CUDA\ndevice"), errors.NotRunnableError, "^the pipeline failed: RuntimeError: device$"),
        (errors.NotRunnableError("no room"), errors.NotRunnableError, "^no room$"),
    ],
)
@pytest.mark.parametrize("place", ["analyze", "separate", "write"])
def test_a_stage_that_cannot_start_ends_the_flow_with_its_error(flow_of, place, planted, raised, message):
    class Broken(Passing):
        def __init__(self, *_, **__):
            raise planted

    with pytest.raises(raised, match=message):
        list(flow_of(**{place: Broken}).rows())


def test_a_plan_that_cannot_be_read_ends_the_flow(flow_of, tmp_path):
    flow = flow_of()
    storage.remove(str(tmp_path / "plan"))
    with pytest.raises(errors.NotRunnableError, match=r"^the pipeline failed: NotFound: .*plan/000000\.parquet: not found"):
        list(flow.rows())


def test_a_flow_that_is_stopped_midway_gives_no_more_rows_and_its_threads_end(flow_of):
    before = threading.active_count()
    flow = flow_of(tracks=500)
    rows = flow.rows()
    next(rows)
    flow.stop()
    assert list(rows) == []
    assert has_ended(before)


def test_a_worker_that_is_left_behind_learns_it_and_where_several_hang_the_flow_ends(flow_of):
    freed = threading.Event()

    class Hanging(Passing):
        learnt: ClassVar = []

        def __call__(self, block):
            while not freed.wait(0.02) and block.column("id")[0].as_py() != "t0":
                pass  # in C, where it does not look
            while not self.work.has_ended():  # in Python, where it does
                time.sleep(0.02)
            self.learnt.append(block.column("id")[0].as_py())
            yield block

    flow = flow_of(separate=Hanging, workers=1, limit_s=0.3)
    rows = iter(flow.rows())
    thread = threading.Thread(target=lambda: list(rows))
    thread.start()
    try:
        with pytest.raises(errors.NotRunnableError, match=r"^5 tracks hang in Separate, each for over 0\.3 s, the time limit$"):
            watch_on(flow)
        assert Hanging.learnt == ["t0"]
    finally:
        freed.set()
        flow.stop()
        thread.join()


def test_a_stage_that_does_not_start_in_time_ends_the_flow(flow_of, monkeypatch):
    freed = threading.Event()

    class Slow(Passing):
        def __init__(self, work, *_, **__):
            freed.wait(30)
            super().__init__(work)

    monkeypatch.setattr(workers, "START_S", 0.2)
    flow = flow_of(separate=Slow)
    thread = threading.Thread(target=lambda: list(flow.rows()))
    thread.start()
    try:
        with pytest.raises(errors.NotRunnableError, match=r"^Separate did not start in 0\.2 s$"):
            watch_on(flow)
    finally:
        freed.set()
        flow.stop()
        thread.join()


def test_a_track_that_is_over_the_limit_in_each_pass_is_a_timeout_and_the_others_are_ok(tiny, local, tmp_path, monkeypatch):
    for hz in (300, 500, 700):
        write_tone(tmp_path / "songs" / f"{hz}.wav", hz)
    whole = separate.Separate.__call__

    def hanging(self, block):
        if block.column("uri")[0].as_py().endswith("500.wav"):
            time.sleep(3)
        yield from whole(self, block)

    monkeypatch.setattr(separate.Separate, "__call__", hanging)
    monkeypatch.setattr(local_flow, "END_S", 0.1)
    summary = run_job(str(tmp_path / "songs"), str(tmp_path / "out"), model=tiny, time_limit_s=1.5, cpus=1)
    assert (summary.exit_code, summary.ok, summary.failed) == (3, 2, {"track_timeout": 1})
    (failed,) = (row for row in index.read(str(tmp_path / "out")).to_pylist() if row["status"] == "failed")
    assert failed["error"] == "one part took more than 1.5 s in a stage, in each of three passes"


def test_one_song_is_separated_without_ray(tiny, tmp_path):
    write_tone(tmp_path / "song.wav")
    program = (
        "import sys; from sep_batch.jobs.run.run import run_job; "
        f"summary = run_job({str(tmp_path / 'song.wav')!r}, {str(tmp_path / 'out')!r}, model={tiny!r}); "
        "print(summary.engine, summary.ok, summary.ray_logs, 'ray' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.home())
    assert told.stdout == "local 1 None False\n"
