"""CUDA errors of workers: what is tried again, which GPU is given up, which track fails. There is no GPU: errors are planted."""

from __future__ import annotations

import re
import sys
import time

import pytest
import ray
import torch
from catalogs import write_tone

from sep_batch.jobs.run import gpu_watch
from sep_batch.jobs.run.gpu_watch import GpuWatch
from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline import errors
from sep_batch.pipeline.flow import ray_flow
from sep_batch.pipeline.out import index
from sep_batch.pipeline.stages import gpu_faults, separate
from sep_batch.pipeline.stages.gpu_faults import Gpu, GpuFault

ILLEGAL = "CUDA error: an illegal memory access was encountered"
NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"


@pytest.fixture
def watch(monkeypatch):
    """Return the GPU that is to be given up after these errors: of each, its GPU and the tracks at work."""

    def look(*marks, gpus=2, **changes):
        faults = {
            str(number): GpuFault(Gpu("node", gpu), ILLEGAL, tuple(ids), **changes) for number, (gpu, ids) in enumerate(marks)
        }
        monkeypatch.setattr(gpu_faults, "faults", lambda _work, known: [pair for pair in faults.items() if pair[0] not in known])
        watched = GpuWatch(None)
        gpu = watched.look(gpus, is_due=True)
        assert watched.look(gpus, is_due=True) == gpu  # marks count once
        watched.forget()
        assert watched.look(gpus, is_due=True) is None
        return gpu and gpu.index

    return look


def test_a_gpu_that_ends_three_workers_with_different_tracks_is_given_up(watch):
    assert watch(("0", "a"), ("1", "b"), ("0", "b")) is None
    assert watch(("0", "a"), ("1", "b"), ("0", "b"), ("0", "ac")) == "0"
    assert watch(("1", ""), ("1", ""), ("1", "")) == "1"  # while workers started


def test_a_gpu_that_ends_workers_with_one_track_is_kept_if_the_track_does_so_elsewhere_too(watch):
    only_here = (("0", "abc"), ("0", "abc"), ("0", "b"), ("0", "b"))
    assert watch(*only_here) == "0"
    assert watch(*only_here, ("1", "b")) is None


def test_the_last_gpu_is_given_up_after_twice_as_many_errors_unless_one_track_has_them_all(watch):
    assert watch(*[("0", "ab"), ("0", "c")] * 2, ("0", "d"), gpus=1) is None
    assert watch(*[("0", "ab"), ("0", "c")] * 3, gpus=1) == "0"
    assert watch(*[("0", "ab"), ("0", "b")] * 3, gpus=1) is None


def test_a_gpu_that_no_worker_can_use_ends_the_run(watch):
    with pytest.raises(errors.NotRunnableError, match="^GPU 0 of node: .*; install a torch and a driver that support it"):
        watch(("0", "a"), is_unusable=True)


def test_marks_are_listed_every_few_seconds_only(monkeypatch):
    monkeypatch.setattr(gpu_faults, "faults", lambda *_: pytest.fail("listed"))
    assert GpuWatch(None).look(1) is None


class Faulty(separate.Separate):
    """Separate, on GPUs of which some are broken, and with tracks at which CUDA fails."""

    broken_gpus, poison, text = ("0",), "none", ILLEGAL

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._is_on_gpu = True

    def _stem_rows(self, waiting):
        ids = [row.column("id")[0].as_py() for row in waiting]
        if self.gpu.index in self.broken_gpus or any(self.poison in id for id in ids):
            raise torch.AcceleratorError(self.text)
        end_s = time.monotonic() + 20
        while self.broken_gpus and len(list(gpu_faults.faults(self.work))) < 3 and time.monotonic() < end_s:
            time.sleep(0.2)  # so that the broken one gets work too
        yield from super()._stem_rows(waiting)


@pytest.fixture
def run_on(one_ray, tiny, tmp_path, monkeypatch):
    """Run eight songs on two logical GPUs of which some are broken."""
    for number in range(8):
        write_tone(tmp_path / "songs" / f"{number}.wav", 300 + 100 * number)

    def run(**changes):
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        monkeypatch.setattr(ray_flow, "Separate", type("Separate", (Faulty,), changes))
        monkeypatch.setattr(gpu_watch, "LOOK_S", 0.2)
        try:
            return run_job(str(tmp_path / "songs"), str(tmp_path / "out"), model=tiny, gpus=2, device="cpu", engine="ray")
        finally:
            ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])

    return run


@pytest.mark.slow
def test_a_broken_gpu_is_given_up_and_the_other_one_separates_every_track(run_on, caplog, tmp_path):
    summary = run_on()
    assert (summary.exit_code, summary.ok, summary.failed, summary.actors["Separate"]) == (0, 8, {}, 1)
    assert [row["status"] for row in index.read(str(tmp_path / "out")).to_pylist()] == ["ok"] * 8
    (line,) = (record.message for record in caplog.records if "given up" in record.message)
    assert "GPU 0 of " in line
    assert re.search(rf"is given up after [34] CUDA errors; the last one: {ILLEGAL}$", line)


@pytest.mark.slow
def test_where_every_gpu_is_broken_the_run_ends_and_marks_no_track(run_on, tmp_path):
    with pytest.raises(errors.NotRunnableError, match=r"no GPU is left: GPU \d of .*; GPU \d of .*run the same command again"):
        run_on(broken_gpus=("0", "1"))
    with pytest.raises(errors.NotFound):
        index.read(str(tmp_path / "out"))


@pytest.mark.slow
def test_a_track_at_which_cuda_fails_on_every_try_fails_alone(run_on, tmp_path):
    summary = run_on(broken_gpus=(), poison="3-")
    assert (summary.exit_code, summary.ok, summary.failed) == (3, 7, {"worker_crash": 1})
    (row,) = (row for row in index.read(str(tmp_path / "out")).to_pylist() if row["status"] == "failed")
    assert row["error"] == f"the worker's process died in each of three passes: {ILLEGAL}"


@pytest.mark.slow
def test_a_gpu_without_kernels_ends_the_run_at_once(run_on):
    with pytest.raises(errors.NotRunnableError, match="no kernel image .*; install a torch"):
        run_on(broken_gpus=("0", "1"), text=NO_KERNEL)
