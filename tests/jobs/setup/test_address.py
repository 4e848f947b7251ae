"""A cluster that is not there: each thing that can be at its address instead is told in one line, in less than half a minute."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
import time

import pytest
from catalogs import write_tone
from project_files import TESTS
from typer.testing import CliRunner

from sep_batch.jobs.cli.main import app
from sep_batch.jobs.doctor import check_software, doctor
from sep_batch.jobs.engine import engine
from sep_batch.jobs.plan import plan
from sep_batch.jobs.setup import address, check_machine
from sep_batch.jobs.setup.check import note, wrong
from sep_batch.jobs.setup.options import Options
from sep_batch.pipeline import errors

LIMIT_S = 30.0
OUT = TESTS / "golden" / "out_of_196c357"
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # the first frame of an HTTP/2 server


@pytest.fixture(autouse=True)
def _no_address_in_the_environment(monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "RAY_USE_TLS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")


@contextlib.contextmanager
def service(answer):
    """Run a server that answers the first bytes of every connection with these; yields HOST:PORT."""

    def serve(listening):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def mute():
    """A port that takes connections and never answers; HOST:PORT."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def closed():
    """A port where nothing listens; HOST:PORT."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def refusal(text):
    """Return what is said of an address."""
    with pytest.raises(address.NoCluster) as refused:
        address.reach(address.address_of(text))
    assert refused.value.exit_code == 5
    assert "\n" not in str(refused.value)
    return str(refused.value)


# What an address may look like


def test_the_flag_wins_over_the_environment_but_for_auto(monkeypatch):
    assert address.address_of(None) is None
    assert str(address.address_of("head:1")) == "head:1 (from --address)"
    monkeypatch.setenv("RAY_ADDRESS", "other:2")
    assert str(address.address_of("head:1")) == "head:1 (from --address)"
    assert str(address.address_of(None)) == str(address.address_of("auto")) == "other:2 (from RAY_ADDRESS)"
    assert address.address_of("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert address.address_of(None) is None


@pytest.mark.parametrize(("text", "parts"), [("head:6379", ("head", 6379)), ("[fd00::2]:1", ("fd00::2", 1))])
def test_host_and_port_are_read(text, parts):
    assert address.address_of(text).host_port == parts


@pytest.mark.parametrize("text", ["head", "6379", "head:0", "head:65536", "head:port", ":6379", "fd00::2", "a b:1", "head:1/"])
def test_what_cannot_be_an_address_is_refused_with_what_it_is(text):
    with pytest.raises(
        errors.UsageError, match="^--address .*: expected HOST:PORT of the cluster's head, as head:6379, or auto$"
    ):
        address.address_of(text)


def test_the_url_of_a_dashboard_is_told_apart_with_both_remedies(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://10.0.0.1:8265")
    with pytest.raises(errors.UsageError) as refused:
        address.address_of(None)
    assert str(refused.value) == (
        "RAY_ADDRESS http://10.0.0.1:8265: the URL of a dashboard, expected HOST:PORT of the cluster's head, as 10.0.0.1:6379; "
        "from outside the cluster: sep-batch submit --address http://10.0.0.1:8265 -- COMMAND"
    )


def test_ray_client_is_not_supported_and_says_what_is():
    with pytest.raises(errors.UsageError) as refused:
        address.address_of("ray://head:10001")
    assert str(refused.value) == (
        "--address ray://...: Ray Client is not supported, expected HOST:PORT of the cluster's head, as head:6379; "
        "from outside the cluster: sep-batch submit --address http://head:8265 -- COMMAND"
    )


# What is at an address


def test_a_server_of_http_2_may_be_a_head():
    with service(SETTINGS) as at:
        address.reach(address.address_of(at))


def test_a_closed_port_is_refused(closed):
    assert refusal(closed) == (
        f"no cluster at {closed} (from --address): connection refused; start the head (ray start --head "
        f"--port={closed.partition(':')[2]}), or open its firewall to this machine; "
        "or omit --address to run on this machine alone"
    )


def test_a_mute_port_is_waited_for_for_a_limited_time(mute, monkeypatch):
    monkeypatch.setattr(address, "ANSWER_S", 0.2)
    assert "it takes connections, but does not answer in 0 s" in refusal(mute)


def test_packets_that_are_dropped_are_waited_for_for_a_limited_time(monkeypatch):
    monkeypatch.setattr(address, "CONNECT_S", 0.5)
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # connections beyond the backlog get no answer
            connection = waiting.enter_context(socket.socket())
            connection.settimeout(0)
            connection.connect_ex(full.getsockname())
        assert ": no answer in 0 s; start the head" in refusal(f"127.0.0.1:{full.getsockname()[1]}")


def test_a_host_that_has_no_address_is_named(monkeypatch):
    def unknown(*_arguments, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "the host name heda is not found (name or service not known); correct it, or give an IP" in refusal("heda:6379")


def test_a_name_server_that_does_not_answer_is_waited_for_for_a_limited_time(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(address, "RESOLVE_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: over.wait(LIMIT_S))
    assert "the host name head is not found (no answer in 0 s)" in refusal("head:6379")
    over.set()


def test_each_address_of_a_host_is_tried(closed, monkeypatch):
    with service(SETTINGS) as at:
        ends = [("127.0.0.1", int(text.partition(":")[2])) for text in (closed, at)]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *_arguments, **_options: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", end) for end in ends],
        )
        address.reach(address.address_of("head:6379"))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<!DOCTYPE HTML>\n<html>"])
def test_an_http_server_is_taken_for_a_dashboard(answer):
    with service(answer) as at:
        told = refusal(at)
    assert "an HTTP server answers, as a dashboard does; expected the port of the cluster's head, 6379 by default" in told
    assert f"to use a dashboard, sep-batch submit --address http://{at} -- COMMAND" in told


def test_another_service_is_told_by_its_first_line():
    with service(b"-ERR unknown command 'PRI'\r\n") as at:
        assert "another service answers: -ERR unknown command 'PRI'; expected the port" in refusal(at)
    with service(b"") as at:
        assert "the service there closes the connection" in refusal(at)


def test_what_speaks_tls_is_left_to_ray(mute, monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    address.reach(address.address_of(mute))


def test_another_grpc_server_is_no_head(one_ray):
    port = one_ray.nodes()[0]["NodeManagerPort"]
    with pytest.raises(address.NoCluster, match="another gRPC server answers .*; expected the port of the cluster's head"):
        engine._located(address.address_of(f"127.0.0.1:{port}"))


def test_a_head_is_joined_by_its_ip_address(one_ray):
    at = one_ray.get_runtime_context().gcs_address
    assert engine._located(address.address_of(f"localhost:{at.partition(':')[2]}")) == at


def test_a_cluster_of_another_version_is_refused_with_both(one_ray, monkeypatch):
    from sep_batch.jobs.engine import head

    monkeypatch.setattr(head.usage_lib, "get_cluster_metadata", lambda _client: {"ray_version": "2.9", "python_version": "3.8.1"})
    with pytest.raises(
        address.NoCluster, match=r"has Ray 2.9 on Python 3.8.1, this machine Ray 2\.\S+ on Python 3\.\S+; install"
    ):
        engine._located(address.address_of(one_ray.get_runtime_context().gcs_address))


def test_a_machine_that_is_no_node_of_the_cluster_is_refused_with_how_to_become_one(one_ray, monkeypatch):
    from sep_batch.jobs.engine import head

    monkeypatch.setattr(head.services, "find_node_ids", lambda: {"another"})
    monkeypatch.setattr(head, "NODE_S", 0.0)
    at = one_ray.get_runtime_context().gcs_address
    with pytest.raises(address.NoCluster, match="has no node on this machine") as refused:
        engine._located(address.address_of(at))
    assert f"run this on one of its 1 nodes, join this machine to it (ray start --address={at})" in refused.value.advice


def test_a_ray_of_our_own_joins_no_cluster_that_a_file_names(tmp_path, monkeypatch):
    import ray

    asked = {}
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options))
    engine._start(Options(gpus=0), None)
    assert asked["address"] == "local"


# The commands


def call(*words):
    """Run a command in this process; return its exit code, its output, and the seconds it took."""
    begun = time.monotonic()
    told = CliRunner().invoke(app, [str(word) for word in words])
    return told.exit_code, told.output, time.monotonic() - begun


@pytest.fixture
def no_ray(monkeypatch):
    """Hide the Ray that other tests have started in this process."""
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def commands(no_ray, tmp_path, monkeypatch):
    """Commands that join a cluster, by name; doctor with no check but Ray's."""
    write_tone(tmp_path / "in" / "a.wav", 300, 0.5)
    shutil.copytree(OUT, tmp_path / "out")
    monkeypatch.setattr(doctor, "_BEFORE", [])
    return {
        "run": ("run", tmp_path / "in", "--out", tmp_path / "stems"),
        "sync": ("sync", tmp_path / "in", tmp_path / "stems"),
        "export": ("export", tmp_path / "out", tmp_path / "dataset", "--to", "parquet"),
        "bench": ("bench", "--seconds", 1),
        "doctor": ("doctor",),
    }


@pytest.mark.parametrize("name", ["run", "sync", "export", "doctor"])
def test_a_closed_port_is_told_at_once_in_one_line(name, closed, commands, tmp_path):
    code, output, took_s = call(*commands[name], "--address", closed)
    assert code == (8 if name == "doctor" else 5), output
    (line,) = [line for line in output.splitlines() if "connection refused" in line]
    assert f"no cluster at {closed} (from --address)" in line
    assert "or omit --address to run on this machine alone" in line
    assert took_s < LIMIT_S
    assert not (tmp_path / "stems").exists()
    assert not (tmp_path / "dataset").exists()


@pytest.mark.parametrize("name", ["run", "export", "doctor"])
def test_a_mute_port_is_told_in_half_a_minute(name, mute, commands, monkeypatch):
    assert address.RESOLVE_S + address.CONNECT_S + address.ANSWER_S <= LIMIT_S
    monkeypatch.setattr(address, "ANSWER_S", 1.0)
    monkeypatch.setenv("RAY_ADDRESS", mute)
    code, output, took_s = call(*commands[name])
    assert code == (8 if name == "doctor" else 5), output
    assert f"no cluster at {mute} (from RAY_ADDRESS): it takes connections, but does not answer in 1 s" in output
    assert "or unset RAY_ADDRESS to run on this machine alone" in output
    assert took_s < LIMIT_S


def test_a_bench_asks_for_the_cluster_before_it_makes_a_catalog(closed, commands, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", closed)
    code, output, _ = call(*commands["bench"])
    assert (code, len(output.splitlines())) == (5, 1)


def test_a_plan_says_that_the_run_would_find_no_cluster(closed, commands, tiny):
    planned = plan.run_plan(str(commands["run"][1]), str(commands["run"][3]), model=tiny, address=closed)
    assert (planned.todo, planned.exit_code) == (1, 5)
    assert f"no cluster at {closed}" in planned.refused


def test_doctor_takes_an_address_and_refuses_what_is_none(commands):
    code, output, _ = call("doctor", "--address", "http://head:8265")
    assert (code, "sep-batch submit --address http://head:8265 -- COMMAND" in output) == (2, True)


def test_doctor_finds_an_address_in_the_environment_wrong_that_is_none(commands, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    code, output, _ = call("doctor", "--json")
    ray = json.loads(output)["checks"][-1]
    assert (code, ray["state"], "the URL of a dashboard" in ray["found"]) == (8, "wrong", True)


def test_doctor_joins_a_cluster_that_is_there(one_ray, monkeypatch):
    from sep_batch.jobs.setup import machine

    monkeypatch.setattr(machine, "refuse_missing_gpus", lambda _asked: None)
    check = check_software.ray_start(one_ray.get_runtime_context().gcs_address)
    assert (check.state, ", joined in " in check.found) == ("ok", True)


# A Ray of our own


def test_a_run_refuses_a_temporary_folder_with_too_long_a_name_before_anything_else(commands, monkeypatch):
    monkeypatch.setenv("TMPDIR", f"/tmp/{'x' * 90}")
    code, output, _ = call(*commands["run"], "--engine", "ray")
    assert (code, len(output.splitlines())) == (5, 1)
    assert "TMPDIR is /tmp/xxx" in output
    assert "95 bytes: with more than " in output
    assert "set RAY_TMPDIR to a shorter folder" in output


def test_what_slows_ray_is_a_warning_and_what_stops_it_an_error(no_ray, monkeypatch, caplog):
    monkeypatch.setattr(check_machine, "sessions", lambda: note("Ray's files", "full", "free some"))
    monkeypatch.setattr(check_machine, "shm", lambda _wanted: note("/dev/shm", "small", "more"))
    engine.look_ahead(Options())
    assert caplog.messages == ["warning: /dev/shm: small; more", "warning: Ray's files: full; free some"]
    monkeypatch.setattr(check_machine, "shm", lambda _wanted: wrong("/dev/shm", "none", "more"))
    with pytest.raises(errors.NotRunnableError, match="^/dev/shm: none; more$"):
        engine.look_ahead(Options())


def test_a_file_of_the_last_cluster_is_noted_whether_it_is_there_or_not(closed, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert list(check_software.last_cluster()) == []
    file = tmp_path / "ray" / "ray_current_cluster"
    file.parent.mkdir()
    file.write_text(closed)
    (stale,) = check_software.last_cluster()
    assert (stale.state, stale.advice) == ("note", f"only --address auto and Ray's own tools read it: delete {file}")
    assert f"no cluster at {closed} (from {file}): connection refused" in stale.found
    with service(SETTINGS) as at:
        file.write_text(at)
        (live,) = check_software.last_cluster()
    assert live.found == f"a cluster is at {at} (from {file})"
    assert list(check_software.last_cluster("head:6379")) == []


def test_auto_says_which_file_named_a_cluster_that_is_over(closed, tmp_path, monkeypatch):
    from sep_batch.jobs.engine import head

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(head.services, "_find_address_from_flag", lambda _flag: set())  # of clusters that other tests have
    with pytest.raises(address.NoCluster, match="no cluster at auto .from --address.: Ray finds none on this machine; start one"):
        engine._located(address.address_of("auto"))
    file = tmp_path / "ray" / "ray_current_cluster"
    file.parent.mkdir()
    file.write_text(closed)
    with pytest.raises(address.NoCluster, match=f"from --address auto, {file}.*: connection refused.*delete {file}"):
        engine._located(address.address_of("auto"))
