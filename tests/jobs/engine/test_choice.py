"""The engine of a run: which one, and what a plan says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet
import pytest
import ray
import torch
from catalogs import write_tone
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.engine import choice
from sep_batch.jobs.engine.choice import Choice
from sep_batch.jobs.setup import check_machine, machine
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors
from sep_batch.pipeline.flow.resources import plan_resources
from sep_batch.pipeline.rows import EXTRA


@pytest.fixture
def alone(monkeypatch):
    """A machine without GPUs, cluster and Ray."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(machine, "gpu_count", lambda options: 0 if options.gpus == "auto" else int(options.gpus))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


def seconds(*durations, probed=None):
    columns = {"duration_s": pa.array(durations, pa.float64()), "offset_s": pa.nulls(len(durations), pa.float64())}
    table = pa.table(columns)
    return table if probed is None else table.append_column(EXTRA, pa.array([{"probed_s": length} for length in probed]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"engine": "local"}, Choice("local", "--engine local")),
        ({"engine": "ray"}, Choice("ray", "--engine ray")),
        ({"address": "head:6379"}, Choice("ray", "the cluster at head:6379 (from --address)")),
        ({"gpus": "2"}, Choice("ray", "2 GPUs")),
        ({"gpus": "1"}, None),
        ({}, None),
    ],
)
def test_options_decide_before_the_amount_of_work_does(alone, options, expected):
    assert choice.before_planning(Options(**options)) == expected


def test_a_ray_that_runs_in_this_process_is_used(alone, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    assert choice.before_planning(Options()) == Choice("ray", "Ray runs in this process already")
    assert choice.before_planning(Options(engine="local")).name == "local"


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ((30.0,), Choice("local", "30 s of audio, Ray from 60 min on")),
        ((3599.0,), Choice("local", "60 min of audio, Ray from 60 min on")),
        ((1800.0, 1800.0), Choice("ray", "60 min of audio, local below 60 min")),
        ((None, 60.0), Choice("local", "about 5 min of audio, Ray from 60 min on")),
        ((None,) * 15, Choice("ray", "about 60 min of audio, local below 60 min")),
    ],
)
def test_small_work_stays_in_this_process_and_unknown_durations_count_four_minutes(durations, expected):
    assert choice.by_amount(Options(), seconds(*durations)) == expected


def test_probed_durations_count_up_to_the_seconds_that_are_separated():
    ten_hours = seconds(None, probed=[36_000.0])
    assert choice.by_amount(Options(), ten_hours) == Choice("ray", "10 h 0 min of audio, local below 60 min")
    assert choice.by_amount(Options(duration_s=60.0), ten_hours).name == "local"
    assert choice.by_amount(Options(offset_s=35_990.0), ten_hours) == Choice("local", "10 s of audio, Ray from 60 min on")
    assert choice.by_amount(Options(), seconds(*[None] * 400, probed=[1.0] * 400)).name == "local"


def test_an_unknown_duration_counts_no_more_than_is_separated_of_each_track():
    assert choice.by_amount(Options(duration_s=20.0), seconds(*[None] * 15)).name == "local"


def test_a_plan_says_which_engine_and_why(alone, tiny, tmp_path):
    for hz in (300, 500):
        write_tone(tmp_path / f"{hz}.wav", hz)
    table = pa.table({"uri": ["300.wav", "500.wav"], "duration_s": [0.5, None]})
    pyarrow.parquet.write_table(table, tmp_path / "songs.parquet")

    def planned(*flags):
        result = CliRunner().invoke(app, ["plan", str(tmp_path / "songs.parquet"), "-p", tiny, *flags])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "engine: local, in this process (about 4 min of audio, Ray from 60 min on)" in planned()
    assert "engine: ray (--engine ray)" in planned("--engine", "ray")
    assert json.loads(planned("--json"))["engine"]["name"] == "local"


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 4), ("", 0), ("-1", 0), ("NoDevFiles", 0), ("2", 1), ("0, 1,GPU-5c1e0b", 3), ("0,1,2,3,4,5", 4)]
)
def test_gpus_that_cuda_hides_do_not_count(visible, count, monkeypatch, tmp_path):
    for number in range(4):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpu_count(Options()) == count


def test_slices_of_gpus_count_each_though_cuda_offers_a_process_only_one(monkeypatch):
    monkeypatch.setattr(machine, "_offered", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5c1e0b,MIG-77aa01, MIG-90c2f4")
    assert machine.gpu_count(Options()) == 3
    machine.refuse_missing_gpus(3)
    with pytest.raises(errors.NotRunnableError, match="--gpus 4: found 3 GPUs that torch"):
        machine.refuse_missing_gpus(4)


def test_the_object_store_has_room_for_the_parts_on_their_way_bounded_by_the_shared_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(check_machine, "SHM", str(tmp_path))
    free = 1 << 40
    monkeypatch.setattr(check_machine, "_free_bytes", lambda: 1 << 40)
    monkeypatch.setattr(check_machine, "memory_bytes", lambda: 1 << 40)
    monkeypatch.setattr(check_machine.os, "statvfs", lambda _folder: SimpleNamespace(f_bavail=free, f_frsize=1))
    sixteen, wave = Options(gpus=1, cpus=16), check_machine.WAVE_BYTES  # with 16 actors each of Analyze and Write
    parts, with_stems = 16 + 2 * 3, 2 * 3 + 2 * 16
    assert check_machine.object_store_bytes(sixteen) == int((parts * wave + with_stems * wave) / 0.75)  # two stems of 16 bits
    assert check_machine.object_store_bytes(replace(sixteen, stft="cpu")) == int((parts * 2 * wave + with_stems * wave) / 0.75)
    five = replace(sixteen, model="spleeter:5stems", format="wav", bit_depth="float")
    assert check_machine.object_store_bytes(five) == int((parts * wave + with_stems * 5 * wave) / 0.75)
    free = 4_000_000_000
    assert check_machine.object_store_bytes(sixteen) == 3_600_000_000
    monkeypatch.setattr(check_machine, "_free_bytes", lambda: 10_000_000_000)
    free = 1 << 40
    assert check_machine.object_store_bytes(sixteen) == 3_000_000_000
    free = 0
    assert check_machine.object_store_bytes(replace(sixteen, gpus=8)) == 8 * check_machine.OBJECT_STORE_BYTES


@pytest.mark.parametrize(("memory_gb", "pairs"), [(None, 16), (64, 16), (17, 10), (1, 1)])
def test_beside_a_gpu_analyze_and_write_may_use_all_cpus_each_if_their_memory_fits(memory_gb, pairs):
    resources = plan_resources(16, 1, memory_bytes=memory_gb and memory_gb * 10**9)
    assert (resources.analyze.actors, resources.write.actors) == (pairs, pairs)
    assert resources.analyze.minimum == pairs
    assert pairs * (resources.analyze.cpus + resources.write.cpus) <= 0.9 * 16
