"""Who starts sep-batch at its hour, and what becomes of its exit codes: the nightly pod, systemd, SLURM."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from infra_files import INFRA, documents, passes, tool

from sep_batch.pipeline import errors

SERVICE, TIMER = (INFRA / "systemd" / f"sep-batch-sync.{kind}" for kind in ("service", "timer"))
SBATCH = INFRA / "slurm" / "sep-batch.sbatch"
SOME_S = 30.0
FAKE = """#!/bin/bash
echo "$@"
trap 'kill $!; exit 7' TERM
[ "$CODE" = asked ] && { sleep 60 & echo ready; wait; }
exit "$CODE"
"""


def wait_for(is_so):
    """Wait until something is so."""
    over = time.monotonic() + SOME_S
    while not is_so():
        assert time.monotonic() < over
        time.sleep(0.05)


def script(path, text):
    """Write a program."""
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def sep_batch(tmp_path):
    """An environment with a sep-batch that says how it was called, and ends with $CODE, or with 7 when it is asked to end."""
    script(tmp_path / "sep-batch", FAKE)
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "SOURCE": "in", "OUT": "out"}


@pytest.fixture
def nightly(sep_batch):
    """A starter of the nightly pod's shell."""
    spec = documents((INFRA / "kuberay" / "nightly" / "cron-job.yaml").read_text())[0]["spec"]["jobTemplate"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    command = [shutil.which("bash"), "-c", *container["args"]]
    return lambda code: subprocess.Popen(command, env=sep_batch | {"CODE": code}, stdout=subprocess.PIPE, text=True)


CODES = [("0", 0), ("1", 1), ("3", 0), ("4", 4), ("5", 5), ("7", 0), ("75", 0), ("137", 137)]


@pytest.mark.parametrize(("code", "expected"), CODES)
def test_the_nightly_pod_fails_only_where_somebody_has_to_look(nightly, code, expected):
    with nightly(code) as pod:
        assert pod.wait(SOME_S) == expected


def test_the_nightly_pod_that_is_asked_to_end_lets_sep_batch_end_in_order(nightly):
    with nightly("asked") as pod:
        assert pod.stdout.readline().startswith("sync in out --gpus 1")
        assert pod.stdout.readline() == "ready\n"
        pod.terminate()
        assert pod.wait(SOME_S) == 0


def test_systemd_takes_the_units(tmp_path):
    units = [tmp_path / SERVICE.name, tmp_path / TIMER.name]
    units[0].write_text(SERVICE.read_text().replace("/opt/sep-batch/bin/sep-batch", "/bin/true"))  # it looks for the program
    shutil.copy(TIMER, units[1])
    passes(tool("systemd-analyze"), "verify", *units)


def test_systemd_and_the_nightly_pod_agree_on_what_is_no_failure(nightly):
    (codes,) = re.findall(r"^SuccessExitStatus=(.+)$", SERVICE.read_text(), re.MULTILINE)
    assert set(map(int, codes.split())) == {int(code) for code, ended in CODES if int(code) and not ended}
    assert {errors.STOPPED, errors.SOME_FAILED, errors.LeaseHeldError.exit_code} == set(map(int, codes.split()))


def test_systemd_finds_little_that_the_service_is_exposed_to(tmp_path):
    shutil.copy(SERVICE, tmp_path)
    told = passes(tool("systemd-analyze"), "security", "--offline=true", tmp_path / SERVICE.name)
    assert float(re.search(r"exposure level for .*: ([\d.]+)", told)[1]) < 3


SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
JOB = {
    "SLURM_JOB_ID": "41",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_CPUS_ON_NODE": "2",
    "SLURM_GPUS_ON_NODE": "1",
    "SLURMD_NODENAME": "a",
}


@pytest.fixture
def job(tmp_path, sep_batch):
    """A starter of the SLURM job, with programs that log how they were called; returns it and their log."""
    script(tmp_path / "srun", SRUN)
    script(tmp_path / "scontrol", f'#!/bin/bash\necho scontrol "$@" >> {tmp_path}/log\n')
    say = f'echo ray "$@" "${{#RAY_AUTH_TOKEN}}" >> {tmp_path}/log'
    look = f"grep -qs -- --head {tmp_path}/log"
    script(tmp_path / "ray", f"#!/bin/bash\n[ $1 = health-check ] && {{ {look}; exit; }}\n{say}\nexec sleep 60\n")

    def start(code, *arguments):
        env = sep_batch | JOB | {"CODE": code}
        return subprocess.Popen([shutil.which("bash"), SBATCH, *arguments], env=env, stdout=subprocess.PIPE, text=True)

    return start, tmp_path / "log"


@pytest.mark.parametrize(("code", "is_queued_again"), [("0", False), ("3", False), ("7", True), ("75", False)])
def test_a_slurm_job_queues_again_where_its_time_was_over(job, code, is_queued_again):
    start, log = job
    with start(code, "songs.parquet", "--out", "stems") as running:
        called = running.stdout.readline()
        assert running.wait(SOME_S) == int(code)
    assert re.fullmatch(r"run --address \S+:20041 --gpus 2 --log-format json songs.parquet --out stems\n", called)
    assert ("scontrol requeue 41" in log.read_text()) == is_queued_again


def test_a_slurm_job_starts_a_head_and_the_other_nodes_with_a_token_that_no_command_line_shows(job):
    start, log = job
    with start("asked") as running:
        assert running.stdout.readline().startswith("run")
        assert running.stdout.readline() == "ready\n"
        wait_for(lambda: log.read_text().count("ray start") == 2)
        running.terminate()
        assert running.wait(SOME_S) == 7
    head, other = sorted(line for line in log.read_text().splitlines() if line.startswith("ray"))[::-1]
    assert re.match(r"ray start --head --node-ip-address=\S+ --port=20041 --temp-dir=/tmp/ray-41 .*--num-gpus=1 64$", head)
    assert re.match(r"ray start --address=\S+:20041 --block --num-cpus=2 --num-gpus=1 64$", other)


@pytest.mark.slow
def test_a_slurm_job_of_one_node_separates_on_a_ray_of_its_own(tmp_path, tiny):
    from catalogs import write_tone

    write_tone(tmp_path / "songs" / "tone.wav", 300, 1.0)
    script(tmp_path / "srun", SRUN)
    job = JOB | {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": "0"}
    path = f"{tmp_path}:{Path(sys.executable).parent}:/usr/bin:/bin"
    command = [shutil.which("bash"), SBATCH, tmp_path / "songs", "--model", tiny]
    try:
        passes(*command, env=job | {"PATH": path, "HOME": str(tmp_path)}, timeout=200)
    finally:
        shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)
    assert (tmp_path / "songs.stems" / "index.parquet").exists()
