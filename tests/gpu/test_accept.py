"""The acceptance of a GPU machine, tried on a CPU at tiny sizes; its decisions follow planted numbers. No GPU is needed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import accept
import checkout
import decisions
import gpu_busy
import ledger
import material
import memory
import pytest
import report
import roofs
import torch
from decisions import decide
from ledger import Ledger, Row, run_part
from signals import snr_db

from sep_batch.model import weights
from sep_batch.model.spec import PRESETS

ACCEPT = Path(accept.__file__)
EVERY = [  # rows that the issue names, one of each kind
    *("machine", "golden.5stems.float32", "numerics.bfloat16.clipped", "numerics.float16.x64", "bits.place.float32"),
    *("bits.batch_size.tf32", "bits.neighbours.float16", "bits.room.bfloat16", "roof.matmul.tf32", "roof.copy"),
    *("forms.nchw.float32.1", "forms.channels_last.bfloat16.2", "forms.inference.float32.2", "forms.graph.tf32.2"),
    *("forms.compile.float16.2", "copies.pageable.to_device", "copies.pinned.to_host", "separator.batch.2"),
    *("separator.threads.2", "separator.workers.2", "oom.fraction.500", "oom.device.1000", "memory.lengths.waves"),
    *("codecs.decode_mp3.one", "codecs.encode_flac.all", "codecs.loudness.all", "pipeline.run.stft_gpu"),
    *("pipeline.run.stft_cpu", "pipeline.killed_worker", "pipeline.device_assert"),
]


def accept_in(folder, *flags):
    """Run the script as a bare Python would, from a folder; return its process's result and the JSON."""
    command = [sys.executable, str(ACCEPT), "--device", "cpu", "--small", "--json", str(folder / "accept.json"), *flags]
    variables = {name: text for name, text in os.environ.items() if name != checkout.VARIABLE}
    result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=280, check=False)
    return result, json.loads((folder / "accept.json").read_text())


@pytest.fixture(scope="module")
def accepted(tmp_path_factory):
    """All three parts on the CPU, with the local engine: the folder, and the JSON."""
    folder = tmp_path_factory.mktemp("accept")
    result, content = accept_in(folder, "--engine", "local")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, content


def test_every_row_has_values_or_the_reason_why_it_was_not_run(accepted):
    _, content = accepted
    names = [row.name for part in accept.PARTS for row in accept.rows_of(part, small=True)]
    assert set(content["rows"]) == set(names)
    assert len(names) == len(set(names))
    assert set(EVERY) <= set(names)
    reasons = {row.get("not_run") for row in content["rows"].values()}
    assert reasons == {None, "not run on cpu", "not run with --engine local"}
    assert [name for name, row in content["rows"].items() if not {"values", "not_run"} & set(row)] == []
    assert {part["ended"] for part in content["parts"].values()} == {True}


def test_what_a_cpu_can_tell_is_as_expected(accepted):
    _, content = accepted
    values = {name: row["values"] for name, row in content["rows"].items() if "values" in row}
    assert report.failures(content["rows"]) == []
    assert values["numerics.float32.music"]["equal"]
    assert values["bits.place.float32"]["differ"] == 0
    assert values["golden.2stems.float32"]["db"] > 80
    assert values["pipeline.run.stft_cpu"]["stems_of_other_bytes"] == 0
    assert values["pipeline.run.stft_gpu"]["tracks"] == material.SONGS_SMALL


def test_the_report_is_markdown_and_claims_no_gpu(accepted):
    folder, content = accepted
    text = (folder / "accept.md").read_text()
    assert text == report.markdown(content)
    assert "nothing here was run on a GPU" in text
    assert "| forms.inference.float32.2 |" in text
    assert "- not run on cpu: " in text
    for name in decisions.RULES:
        assert f"| {name} | - | " in text
    for table in text.split("\n\n"):
        if table.startswith("| "):
            assert len({line.count(" | ") for line in table.splitlines() if "---" not in line}) == 1


def planted(measure, name="a", **options):
    return Row(name, lambda _setup: measure(), **options)


@pytest.fixture
def setup(tmp_path):
    return material.Setup("cpu", small=True, engine="local", work=tmp_path / "work")


def fail(error):
    raise error


def test_a_part_that_is_cut_off_keeps_its_rows(tmp_path, setup):
    rows = [planted(lambda: {"x": 1}), planted(partial(fail, KeyboardInterrupt()), "b"), planted(dict, "c")]
    kept = Ledger.open(tmp_path / "accept.json")
    with pytest.raises(KeyboardInterrupt):
        run_part(kept, 1, rows, setup, limit_s=60, say=lambda _: None)
    again = Ledger.open(tmp_path / "accept.json")
    assert again.values("a") == {"x": 1}
    assert list(again.rows) == ["a"]
    assert not again.content["parts"]["1"]["ended"]
    assert "part 1 cut off" in report.markdown(again.content)


def test_an_error_is_the_rows_result_and_the_part_goes_on(tmp_path, setup):
    rows = [planted(partial(fail, ValueError("bad\nworse"))), planted(lambda: {"x": float("inf"), "ok": False}, "b")]
    kept = Ledger.open(tmp_path / "accept.json")
    run_part(kept, 2, rows, setup, limit_s=60, say=lambda _: None)
    content = json.loads((tmp_path / "accept.json").read_text())
    assert content["rows"]["a"]["error"] == "builtins.ValueError: bad"
    assert content["rows"]["b"]["values"]["x"] == "inf"
    assert report.failures(content["rows"]) == ["a", "b"]
    run_part(kept, 2, rows, setup, limit_s=-1, say=lambda _: None)
    assert kept.rows["b"]["not_run"] == "no time left: -1 s"


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import os; print('last words', flush=True); os._exit(3)", "its process ended with 3: last words"),
        ("import os; os.abort()", "its process ended with -6: no output"),
        ("import time; time.sleep(60)", "over 1 s"),
        ("import sys; open(sys.argv[-1], 'w').write('{\"values\": {\"x\": 2}}')", None),
    ],
)
def test_a_row_that_ends_its_process_is_an_error_of_that_row(program, error):
    command = SimpleNamespace(command=lambda: [sys.executable, "-c", program])
    answer = ledger.in_child(planted(dict, alone=True), command, limit_s=1.0 if error == "over 1 s" else 30.0)
    assert answer == ({"error": error} if error else {"values": {"x": 2}})


def test_once_cuda_is_unusable_each_further_row_has_its_own_process(tmp_path, setup, monkeypatch):
    monkeypatch.setattr(ledger, "_is_usable", lambda _setup: False)
    monkeypatch.setattr(ledger, "in_child", lambda row, _setup, limit_s: {"values": {"child": row.name}})
    kept = Ledger.open(tmp_path / "accept.json")
    rows = [planted(dict), planted(partial(fail, RuntimeError("CUDA error")), "b"), planted(dict, "c")]
    run_part(kept, 1, rows, setup, limit_s=60, say=lambda _: None)
    assert [kept.values("a"), kept.values("c")] == [{}, {"child": "c"}]


def test_a_process_of_its_own_runs_one_row(setup, monkeypatch):
    monkeypatch.setenv(checkout.VARIABLE, str(checkout.ROOT / ".types"))
    (row,) = (row for row in accept.rows_of(1, small=True) if row.name == "unet.work")
    assert ledger.in_child(row, setup, limit_s=120)["values"]["gflop"] > 0


def test_without_the_device_nothing_is_run(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["accept.py", "--json", str(tmp_path / "accept.json")])
    assert accept.run_parts(accept.parsed()) == 2
    assert not (tmp_path / "accept.json").exists()
    assert capsys.readouterr().out.startswith("torch sees no GPU")


@pytest.mark.parametrize("fits", [1, 0])
def test_memory_that_runs_out_is_recorded_and_the_separator_goes_on(setup, monkeypatch, fits):
    one = setup.separator()
    whole, is_full = one.estimates, []

    def estimates(magnitudes):
        if is_full and len(magnitudes) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(magnitudes)

    @contextlib.contextmanager
    def fill(_mb):
        is_full.append(True)
        try:
            yield
        finally:
            is_full.clear()

    monkeypatch.setattr(one, "estimates", estimates)
    values = memory.out_of_memory(setup, mb=100, fill=fill)
    assert values["errors"] == [
        {"text": "torch.OutOfMemoryError: CUDA out of memory", "is_out_of_memory": True, "is_fault": False}
    ]
    assert (values["room_before"], values["room_after"], values["ok"]) == (3, 1, True)
    assert values["went_on"] == bool(fits)


def test_the_work_of_a_network_is_that_of_the_documentation():
    work = roofs.work_of(PRESETS["spleeter:2stems"])
    assert work.flop == pytest.approx(12.2e9, rel=0.01)
    assert work.bytes(10, 2) < 10 * work.bytes(1, 2)


def test_the_polls_of_a_gpu_are_added_up_from_the_first_busy_one_to_the_last():
    lines = [
        "0, 500, 345, 80.1",
        "90, 9000, 1980, 600",
        "70, 8000, 1900, [N/A]",
        "0, 500, 345, 80",
        "50, 500, 345, 80",
        "[N/A], -, -",
    ]
    values = gpu_busy.summary([gpu_busy.parsed(line, number) for number, line in enumerate(lines)])
    assert values["gpu_busy_at_work"] == (90 + 70 + 0 + 50) / 4
    assert values["gpu_busy"] == 35
    assert (values["gpu_memory_mb"], values["gpu_power_w"]) == (9000, 600)
    assert gpu_busy.summary([]) == {}


def test_a_gpu_is_polled_until_the_block_ends(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 80, 9000, 1980, 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(gpu_busy, "POLL_S", 0.01)
    with gpu_busy.GpuBusy() as gpu:
        deadline = time.monotonic() + 30
        while len(gpu.samples) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert gpu_busy.summary(gpu.samples)["gpu_busy"] == 80


def rate(x):
    return {"values": {"x_real_time": x}}


def numbers(
    *, busy=0.9, tf32=3000.0, music=72.0, hard=40.0, graph=5.0, compile=5.0, stft_gpu=1300.0, threads=(900.0, 1300.0, 1320.0)
):
    rows = {f"separator.precision.{name}": rate(x) for name, x in (("float32", 2000.0), ("tf32", tf32))}
    rows |= {f"numerics.tf32.{name}": {"values": {"db": db, "equal": False}} for name, db in (("music", music), ("square", hard))}
    rows |= {f"separator.threads.{number}": rate(x) for number, x in enumerate(threads, 1)}
    rows |= {f"separator.batch.{number}": rate(x) for number, x in ((5, 1000.0), (10, 1970.0), (20, 2000.0))}
    rows |= {f"separator.workers.{number}": rate(x) for number, x in ((1, 1000.0), (2, 1040.0))}
    times = {"inference": 6.0, "graph": graph, "compile": compile}
    rows |= {f"forms.{form}.float32.10": {"values": {"ms_a_patch": ms}} for form, ms in times.items()}
    rows["pipeline.run.stft_gpu"] = {"values": {"x_real_time": stft_gpu, "busy": {"Separate": busy}}}
    rows["pipeline.run.stft_cpu"] = rate(1000.0)
    return rows | {"machine": {"values": {"gpu": "planted", "small": False}}}


def choices(rows):
    return {decision.name: decision.choice for decision in decide(rows)}


def test_decisions_follow_the_numbers():
    assert choices(numbers()) == {
        "precision": "tf32",
        "batch": "10",
        "threads a GPU": "2",
        "workers a GPU": "1",
        "--stft": "gpu",
        "form": "graph",
    }


@pytest.mark.parametrize(
    ("changes", "name", "choice"),
    [
        ({"busy": 0.3}, "precision", "float32"),  # the CPUs are the bottleneck
        ({"tf32": 2200.0}, "precision", "float32"),
        ({"music": 50.0}, "precision", "float32"),
        ({"hard": 20.0}, "precision", "float32"),
        ({"hard": "-inf"}, "precision", "float32"),
        ({"stft_gpu": 1020.0}, "--stft", "cpu"),
        ({"threads": (1300.0, 1310.0, 1320.0)}, "threads a GPU", "1"),
        ({"graph": 5.8}, "form", "inference"),
        ({"compile": 4.0}, "form", "compile"),
    ],
)
def test_a_decision_changes_with_its_number(changes, name, choice):
    assert choices(numbers(**changes))[name] == choice


@pytest.mark.parametrize("machine", [{"small": False}, {"gpu": "planted", "small": True}])
def test_numbers_of_a_cpu_or_of_tiny_sizes_decide_nothing(machine):
    assert set(choices(numbers() | {"machine": {"values": machine}}).values()) == {None}


def test_a_decision_without_its_numbers_is_not_made_and_says_what_is_missing():
    rows = numbers() | {"forms.graph.float32.10": {"not_run": "not run on cpu"}}
    del rows["pipeline.run.stft_cpu"]
    decided = {decision.name: decision for decision in decide(rows)}
    assert decided["form"].choice is None
    assert decided["form"].because == "not decided: no ms_a_patch of forms.graph.float32.10 (not run on cpu)"
    assert decided["--stft"].because == "not decided: no x_real_time of pipeline.run.stft_cpu"
    assert set(choices({}).values()) == {None}


def test_random_weights_are_the_same_each_time_and_load(tmp_path):
    spec = material.golden().narrow_spec("2stems")
    tensors = material.random_tensors(spec)
    assert tensors.keys() == material.golden().tensors("2stems").keys()
    material.save_model(spec, tensors, tmp_path / "model")
    given = material.Setup("cpu", small=True, engine="local", work=tmp_path / "work", given_model=tmp_path / "model")
    assert given.loaded.sha256 == weights.sha256_of(material.random_tensors(spec))
    with pytest.raises(weights.WeightsError):  # nothing is made in a folder that was given
        _ = material.Setup("cpu", small=True, engine="local", work=tmp_path, given_model=tmp_path / "none").loaded
    stems = [wave.numpy() for wave in given.separator().separate(given.music).values()]
    assert snr_db(stems[0], stems[1]) < 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_under_ray_a_killed_worker_and_a_cuda_error_change_no_byte(tmp_path):
    """The error is planted, for there is no GPU; the kill is real."""
    result, content = accept_in(tmp_path, "--part", "3")
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("killed_worker", "device_assert"):
        values = content["rows"][f"pipeline.{name}"]["values"]
        assert (values["exit"], values["stems"], values["stems_of_other_bytes"]) == (0, 2 * material.SONGS_SMALL, 0)
    assert len(content["rows"]["pipeline.killed_worker"]["values"]["kills"]) == 1
    assert content["rows"]["pipeline.device_assert"]["values"]["happened"]
