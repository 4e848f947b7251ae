"""`doctor`: each fault that is planted is found and said with what to do about it; where there is none, all is ok."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.doctor import check_gpu, check_software, check_storage, doctor
from sep_batch.jobs.engine.engine import try_ray
from sep_batch.jobs.setup import check_machine, machine
from sep_batch.jobs.setup.check import Check, note, wrong
from sep_batch.jobs.setup.check_machine import OBJECT_STORE_BYTES
from sep_batch.jobs.setup.options import Options
from sep_batch.model import weights
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import retries


@pytest.fixture(autouse=True)
def _no_storage_options_are_left_behind():
    yield
    storage.use({})


def call(*arguments):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def of_storage(uri, options=None):
    """Return the checks of a URI by name; doctor's own way to be told of options is `--storage-options`."""
    storage.use(options or {})
    return {check.name: check for check in check_storage.checks(str(uri), options or {})}


# The command


@pytest.fixture
def quick(monkeypatch):
    """Doctor with only two checks of its own, which a test may change."""
    checks = [lambda: Check("Python", "3.11"), lambda: note("memory", "3 GB", "free some")]
    monkeypatch.setattr(doctor, "_BEFORE", checks)
    monkeypatch.setattr(check_software, "last_cluster", lambda _address: iter(()))
    monkeypatch.setattr(check_software, "ray_start", lambda _address: Check("Ray", "2.60.0"))
    return checks


def test_a_line_a_check_and_what_to_do_beside_what_is_not_ok(quick):
    told = call("doctor")
    assert told.exit_code == 0
    assert told.output.splitlines() == [
        "ok     Python      3.11",
        "note   memory      3 GB → free some",
        "note   storage     not tested → sep-batch doctor URI tests the storage of sources or stems",
        "ok     Ray         2.60.0",
        "nothing wrong was found",
    ]


def test_what_is_wrong_is_exit_8_and_the_rest_is_checked_all_the_same(quick):
    quick.insert(0, lambda: wrong("torch", "gone", "bring it back"))
    told = call("doctor")
    assert (told.exit_code, told.output.splitlines()[-1]) == (8, "1 of 5 checks found something wrong")
    assert "ok     Ray" in told.output


def test_a_check_that_breaks_is_a_finding_of_its_own(quick):
    def open_files():
        raise RuntimeError("no such thing\nmore")

    quick.append(open_files)
    told = call("doctor")
    assert "wrong  open files  RuntimeError: no such thing → open an issue" in told.output
    assert told.exit_code == 8


def test_as_json(quick):
    told = json.loads(call("doctor", "--json").stdout)
    assert told["exit_code"] == 0
    assert told["checks"][1] == {"name": "memory", "found": "3 GB", "state": "note", "advice": "free some"}


def test_mistakes_are_one_line(quick, tmp_path):
    told = call("doctor", "--storage-options", tmp_path / "none.json")
    assert (told.exit_code, len(told.output.splitlines())) == (2, 1)
    told = call("doctor", "--endpoint", "x")
    assert (told.exit_code, "--endpoint-url" in told.output) == (2, True)


def test_all_checks_of_a_healthy_machine_are_ok_but_for_what_is_its_own(monkeypatch):
    monkeypatch.setattr(check_software, "try_ray", lambda _address: "started")
    named = {check.name: check for check in doctor.run_doctor()}
    for name in ("Python", "open files", "torch", "codecs", "Ray"):
        assert named[name].state == "ok", named[name]
    assert {"CPUs", "memory", "/dev/shm", "weights", "storage"} < set(named)


# The machine


def has_shm(monkeypatch, *, total, free):
    """Give this machine a /dev/shm of so many bytes."""
    monkeypatch.setattr(os, "statvfs", lambda _folder: SimpleNamespace(f_blocks=total, f_bavail=free, f_frsize=1))


def test_a_small_shared_memory_is_noted_with_how_to_make_it_larger(monkeypatch):
    has_shm(monkeypatch, total=64 << 20, free=64 << 20)
    small = check_machine.shm()
    assert small.state == "note"
    assert "67.1 MB of 67.1 MB free, Ray's object store takes 838.9 MB: it uses the disk of " in small.found
    assert "--shm-size 2g" in small.advice
    has_shm(monkeypatch, total=OBJECT_STORE_BYTES, free=OBJECT_STORE_BYTES)
    assert check_machine.shm().state == "ok"


def test_a_shared_memory_that_is_full_is_noted_with_how_to_see_what_fills_it(monkeypatch):
    has_shm(monkeypatch, total=16 << 30, free=64 << 20)
    full = check_machine.shm()
    assert (full.state, full.advice) == ("note", "delete files in it (ls -lS /dev/shm lists the largest first)")


def test_more_gpus_need_more_shared_memory_and_ray_refuses_to_go_without(monkeypatch):
    monkeypatch.delenv("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", raising=False)
    monkeypatch.setattr(check_machine, "SHM", "/nowhere")
    missing = check_machine.shm(Options(gpus=16))
    assert missing.state == "wrong"
    assert "0.0 kB of 0.0 kB free, Ray's object store takes 13.4 GB: Ray will not start" in missing.found
    monkeypatch.setenv("RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE", "1")
    assert check_machine.shm(Options(gpus=16)).state == "note"


def test_a_temporary_folder_with_too_long_a_name_is_wrong_with_the_variable_and_its_bytes(monkeypatch):
    folder = f"/tmp/{'x' * 90}"
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    named = check_machine.sessions()
    assert (named.state, named.found.partition(":")[0]) == ("wrong", f"TMPDIR is {folder}, 95 bytes")
    monkeypatch.setenv("RAY_TMPDIR", folder + "/" + "ü" * 10)
    assert "116 bytes" in check_machine.sessions().found
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert check_machine.sessions().state != "wrong"


def test_the_longest_name_of_a_temporary_folder_is_the_one_that_ray_takes(monkeypatch, tmp_path):
    from ray._private.utils import validate_socket_filepath

    most = check_machine._most_bytes()
    session = f"ray/session_2026-11-30_06-38-41_123456_{os.getpid()}/sockets/plasma_store"
    validate_socket_filepath(f"/{'x' * (most - 1)}/{session}")
    with pytest.raises(OSError, match="107 bytes"):
        validate_socket_filepath(f"/{'x' * most}/{session}")


@pytest.mark.parametrize(
    ("free", "state", "words"),
    [
        (500_000, "wrong", "500.0 kB of 100.0 GB free: Ray will not start"),
        (4_900_000_000, "note", "over 95% full, where Ray spills no objects"),
        (5_100_000_000, "ok", "5.1 GB of 100.0 GB free"),
    ],
)
def test_a_full_disk_below_rays_sessions_is_noted_and_one_without_room_is_wrong(free, state, words, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(total=100_000_000_000, free=free))
    check = check_machine.sessions()
    assert (check.state, words in check.found) == (state, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user_is_no_place_for_rays_sessions(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/")
    assert check_machine.sessions().state == "wrong"


@pytest.fixture
def group(monkeypatch, tmp_path):
    """Put this process into a control group of files; returns what writes them."""

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "fs" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    monkeypatch.setattr(check_machine, "CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(check_machine, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    return write


GROUPS = {
    "version 2": (
        "0::/pod/app",
        {"pod__app__cpu.max": "max 100000", "pod__cpu.max": "250000 100000", "pod__memory.max": "2000000000"},
    ),
    "version 2, its own root": ("0::/", {"cpu.max": "250000 100000", "memory.max": "2000000000"}),
    "version 1": (
        "5:memory:/x\n3:cpu,cpuacct:/x\n0::/",
        {
            "cpu,cpuacct__x__cpu.cfs_quota_us": "250000",
            "cpu,cpuacct__x__cpu.cfs_period_us": "100000",
            "cpu,cpuacct__cpu.cfs_quota_us": "-1",
            "cpu,cpuacct__cpu.cfs_period_us": "100000",
            "memory__x__memory.limit_in_bytes": "2000000000",
            "memory__memory.limit_in_bytes": "9223372036854771712",
        },
    ),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_the_bounds_of_a_container_count_not_those_of_its_host(kind, group):
    own, files = GROUPS[kind]
    group(own, **files)
    cpus, memory = check_machine.cpus(), check_machine.memory()
    assert (cpus.state, "of which this container may use 2.5" in cpus.found, "--cpus 2," in cpus.advice) == ("note", True, True)
    assert (memory.state, "2.0 GB, the limit of this container" in memory.found) == ("wrong", True)


def test_without_bounds_the_machine_counts(group):
    group("0::/", **{"cpu.max": "max 100000", "memory.max": "max"})
    assert check_machine.cpus().state == "ok"
    assert "container" not in check_machine.memory().found


@pytest.mark.parametrize(
    ("limits", "state"), [((1024, 4096), "note"), ((1024, 1 << 20), "ok"), ((1024, -1), "ok"), ((-1, -1), "ok")]
)
def test_the_limit_of_open_files_is_the_one_that_ray_will_have(limits, state, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits)
    assert check_machine.open_files().state == state


# What computes


def test_a_torchaudio_whose_compiled_part_does_not_fit_is_told_and_harms_nothing(monkeypatch):
    def refused(name):
        raise OSError("libtorchaudio.so: undefined symbol")

    monkeypatch.setattr(check_gpu.importlib, "import_module", refused)
    check = check_gpu.torch_build()
    assert check.state == "ok"
    assert "(of another build; not needed)" in check.found


def test_a_torchaudio_that_is_missing_is_told_with_its_own_words(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    found = check_gpu.torch_build()
    assert (found.state, "torchaudio cannot be imported: " in found.found, "constraints.txt" in found.advice) == (
        "wrong",
        True,
        True,
    )


def test_a_cpu_without_avx2_is_noted(monkeypatch):
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert check_gpu.torch_build().state == "note"


def test_the_same_device_computes_the_same():
    assert check_gpu.computed_off("cpu") == 0


@pytest.fixture
def cuda(monkeypatch, tmp_path):
    """A driver that lists one GPU, for a torch that is built for CUDA 13.0; returns what sets the rest."""
    import torch

    (tmp_path / "gpus" / "0").mkdir(parents=True)
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version: 12\n")
    monkeypatch.setattr(check_gpu, "DRIVER", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old\nmore")

    def set_to(newest, *, usable, off=0.0):
        library = SimpleNamespace(cuDriverGetVersion=lambda pointer: setattr(pointer._obj, "value", newest))
        monkeypatch.setattr(check_gpu.ctypes, "CDLL", lambda _name: library)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda _number: SimpleNamespace(name="NVIDIA H100", major=9, minor=0)
        )
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _number: (79_000_000_000, 80_000_000_000))
        monkeypatch.setattr(check_gpu, "computed_off", lambda _device: off)

    return set_to


def test_a_driver_that_is_too_old_is_named_with_the_one_that_torch_needs(cuda):
    cuda(12020, usable=False)
    (found,) = check_gpu.gpus()
    assert found.state == "wrong"
    assert found.found.startswith("driver 535.104.05 (CUDA 12.2) with 1 GPUs, of which torch can use none: The NVIDIA driver on")
    assert "a driver for CUDA 13.0 or later" in found.advice


def test_gpus_that_are_hidden_are_named_as_hidden(cuda, monkeypatch):
    cuda(13000, usable=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (found,) = check_gpu.gpus()
    assert "CUDA_VISIBLE_DEVICES is '': unset it" in found.advice


def test_a_gpu_that_a_container_was_not_given_is_wrong(cuda, monkeypatch):
    cuda(13000, usable=False)

    def none(_name):
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(check_gpu.ctypes, "CDLL", none)
    (found,) = check_gpu.gpus()
    assert (found.state, "docker run --gpus all" in found.advice) == ("wrong", True)


def test_a_gpu_is_told_with_its_memory_and_that_it_computes(cuda):
    cuda(13000, usable=True)
    driver, gpu = check_gpu.gpus()
    assert driver.found == "535.104.05, for CUDA up to 13.0; torch is built for 13.0"
    assert (gpu.state, gpu.found.split(",")[0], "79.0 GB of 80.0 GB free" in gpu.found) == ("ok", "NVIDIA H100", True)


@pytest.mark.parametrize("off", [0.01, float("nan")])
def test_a_gpu_that_computes_something_else_is_wrong(off, cuda):
    cuda(13000, usable=True, off=off)
    assert list(check_gpu.gpus())[1].state == "wrong"


def test_without_driver_and_gpu_the_cpu_is_named(monkeypatch, tmp_path):
    import torch

    def none(_name):
        raise OSError

    monkeypatch.setattr(check_gpu, "DRIVER", tmp_path)
    monkeypatch.setattr(check_gpu.ctypes, "CDLL", none)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert list(check_gpu.gpus()) == [Check("GPU", "none: the U-Nets run on the CPU")]


@pytest.mark.gpu
def test_real_gpus_compute_what_the_cpu_does():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = list(check_gpu.gpus())
    assert (len(found), {check.state for check in found}) == (1 + torch.cuda.device_count(), {"ok"})


def test_a_codec_that_fails_is_named_and_only_that(monkeypatch):
    def encode(wave, codec, **options):
        if codec.encoder == "libmp3lame":
            raise ValueError("unknown encoder\nmore")
        return written(wave / 2 if codec.encoder == "flac" else wave, codec, **options)

    written = check_software.encode
    monkeypatch.setattr(check_software, "encode", encode)
    assert (
        check_software.codecs().found
        == "; ".join(f"flac {depth}: read at 0.50 of the level that was written" for depth in (16, 24)) + "; mp3: unknown encoder"
    )


@pytest.fixture
def cached(tiny, tmp_path, monkeypatch):
    """The default model's weights in a cache of their own."""
    monkeypatch.setenv("SEP_BATCH_CACHE", str(tmp_path))
    return Path(shutil.copytree(tiny, weights.cached("spleeter:2stems")))


def test_weights_that_are_here_are_read_and_hashed(cached):
    assert check_software.default_weights().state == "ok"


def test_a_flipped_byte_in_the_weights_is_wrong(cached):
    content = bytearray((cached / weights.MODEL_FILE).read_bytes())
    content[-100] ^= 1
    (cached / weights.MODEL_FILE).write_bytes(bytes(content))
    found = check_software.default_weights()
    assert (found.state, "expected" in found.found, "models fetch spleeter:2stems" in found.advice) == ("wrong", True, True)


def test_weights_that_are_not_fetched_yet_are_noted(cached):
    shutil.rmtree(cached)
    assert check_software.default_weights().state == "note"


def test_a_cache_that_can_be_written_to_is_ok_and_left_as_it_was(cached):
    before = sorted(cached.parent.parent.rglob("*"))
    assert check_software.cache().state == "ok"
    assert sorted(cached.parent.parent.rglob("*")) == before


def test_a_cache_that_cannot_be_written_to_is_wrong_unless_the_weights_are_there(cached, monkeypatch):
    def refuse(**_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(weights.tempfile, "TemporaryFile", refuse)
    advice = "set SEP_BATCH_CACHE to a writable folder"
    found = check_software.cache()
    assert (found.state, found.advice) == ("note", f"for other models and forecasts, {advice}")
    shutil.rmtree(cached)
    found = check_software.cache()
    assert (found.state, found.advice) == ("wrong", advice)
    assert "(Permission denied), and no published model can be fetched" in found.found


def test_a_ray_that_does_not_start_is_wrong(monkeypatch):
    def refuse(_address):
        raise errors.NotRunnableError("Ray: no room")

    monkeypatch.setattr(check_software, "try_ray", refuse)
    found = check_software.ray_start()
    assert (found.state, "does not start: Ray: no room" in found.found) == ("wrong", True)


def test_ray_is_tried_as_a_run_starts_it(one_ray, monkeypatch):
    monkeypatch.setattr(machine, "refuse_missing_gpus", lambda _asked: None)  # of this Ray's two, which are logical
    assert "actors of a run: Analyze 4, Separate 2, Write 4, U-Nets on cuda" in try_ray()


# Storage


def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    found = of_storage(tmp_path)
    assert {check.state for check in found.values()} <= {"ok", "note"}
    assert found["storage"].found == f"{tmp_path}: written, read, listed, removed"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made_and_said(tmp_path):
    found = of_storage(tmp_path / "new" / "out")
    assert f"in {tmp_path}, where a run will make {tmp_path}/new/out" in found["disk"].found
    assert (found["storage"].state, list(tmp_path.iterdir())) == ("ok", [])


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "song.wav").write_text("")
    assert of_storage(tmp_path / "song.wav")["storage"] == wrong("storage", f"{tmp_path}/song.wav: a file", "name a folder")


DISKS = {
    errno.EACCES: "the right to write there",
    errno.EROFS: "mounted read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is full",
    errno.ENOENT: "use another folder",
}


@pytest.mark.parametrize("number", DISKS)
def test_what_a_disk_refuses_is_said_with_what_to_do(number, tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(storage.writing, "_put_on_disk", refuse)
    found = of_storage(tmp_path)["storage"]
    assert (found.state, os.strerror(number) in found.found, DISKS[number] in found.advice) == ("wrong", True, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_wrong(tmp_path):
    tmp_path.chmod(0o500)
    assert "the right to write there" in of_storage(tmp_path)["storage"].advice


def test_little_room_on_a_disk_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1_000_000_000))
    assert of_storage(tmp_path)["disk"].state == "note"


def test_storage_that_gives_other_bytes_or_loses_them_is_wrong(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(storage, "read", lambda _uri: b"other")
        assert "other bytes" in of_storage(tmp_path)["storage"].found
    monkeypatch.setattr(storage, "find", lambda _uri: iter(()))
    assert "it lists []" in of_storage(tmp_path)["storage"].found


def test_storage_where_two_may_create_one_object_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "create", lambda _uri, _content: True)
    found = list(check_storage.checks(str(tmp_path), {}))
    assert ("note", "an existing object can be created again") in {(check.state, check.found) for check in found}


def test_a_clock_that_is_apart_is_noted(tmp_path, monkeypatch):
    then = datetime.now(UTC) - timedelta(minutes=10)
    monkeypatch.setattr(storage, "info", lambda uri: storage.Info(uri, 1, None, then))
    found = of_storage(tmp_path)["clock"]
    assert (found.state, found.found) == ("note", "the clocks of storage and this machine differ by 600 s")


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3://KEY:SECRET@bucket/x", "https://host/x"])
def test_a_uri_that_is_not_read_is_wrong_and_no_secret_is_shown(uri):
    found = of_storage(uri)["storage"]
    assert (found.state, "SECRET" in found.found) == ("wrong", False)


def test_a_bucket_is_tried_and_left_as_it_was(s3):
    checks = of_storage(f"{s3}/doctor")
    assert (checks["storage"].found, checks["storage"].state) == (f"{s3}/doctor: written, read, listed, removed", "ok")
    assert checks["credentials"].found == "found (env)"
    assert "testing" not in str(checks)
    assert list(storage.find(f"{s3}/doctor")) == []


def test_a_bucket_that_is_not_there_is_wrong(s3):
    found = of_storage("s3://no-such-bucket/x")["storage"]
    assert (found.state, "NoSuchBucket" in found.found, "create the bucket" in found.advice) == ("wrong", True, True)


def test_a_wrong_secret_is_wrong_and_not_shown(s3, s3_server, s3_endpoint):
    if s3_server == "moto":
        pytest.skip("moto takes any secret")
    options = {"s3://": {"key": "sep:batch", "secret": "hidden", "endpoint_url": s3_endpoint}}
    found = of_storage(f"{s3}/x", options)
    assert found["credentials"].found == "those of --storage-options"
    assert (found["storage"].state, "AWS_ACCESS_KEY_ID" in found["storage"].advice) == ("wrong", True)
    assert "hidden" not in str(found)


def test_without_credentials_that_is_said(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    assert check_storage._credentials("s3://b/x", {}) == wrong("credentials", "none", check_storage._CREDENTIALS)
    monkeypatch.setenv("AWS_PROFILE", "label")
    assert "label" in check_storage._credentials("s3://b/x", {}).found


def test_a_server_that_does_not_answer_is_told_soon():
    begun = time.monotonic()
    found = of_storage("s3://bucket/x", {"s3://": {"endpoint_url": "http://127.0.0.1:9", "key": "a", "secret": "b"}})["storage"]
    assert (found.state, "--endpoint-url" in found.advice) == ("wrong", True)
    assert time.monotonic() - begun < 20


def test_brief_tries_are_over_with_their_block():
    tries = []

    @retries.reading
    def ask(uri):
        tries.append(uri)
        raise ConnectionError

    with retries.brief(2), pytest.raises(errors.FetchTimeout):
        ask("s3://b/x")
    assert len(tries) == 2
    assert retries._most_tries.get() == retries.TRIES
