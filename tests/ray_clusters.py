"""A Ray cluster of one node on this machine, with its dashboard, as `ray start` makes it; beside whatever else runs here."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PORTS = (
    *("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port"),
    *("ray-client-server-port", "node-manager-port", "object-manager-port", "metrics-export-port"),
)
GIVEN_TO_NOBODY = range(20_000, 32_000)
LOG, STARTS, STOP_S = "start.log", 3, 30.0


@contextlib.contextmanager
def cluster(token: str, num_cpus: int = 2) -> Iterator[str]:
    """Run a cluster that takes TOKEN, with this Python's sep-batch and no AWS variables; yields its dashboard's URL."""
    with tempfile.TemporaryDirectory(prefix="sep-ray-", ignore_cleanup_errors=True) as folder:  # its sockets' paths must be short
        head, url = started(token, num_cpus, Path(folder))
        try:
            yield url
            if head.poll() is not None:
                raise RuntimeError(f"Ray ended by itself: {(Path(folder) / LOG).read_text()}")
        finally:
            end(head)


def started(token: str, num_cpus: int, folder: Path) -> tuple[subprocess.Popen, str]:
    """Start a head; Ray gives a node that has just been started 30 s, and a busy machine may take longer."""
    for _ in range(STARTS):
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--num-cpus={num_cpus}"]
        command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--object-store-memory={300 << 20}"]
        command += [f"--temp-dir={folder}", *(f"--{name}={port}" for name, port in ports.items())]
        with (folder / LOG).open("w") as log:
            head = subprocess.Popen(command, env=environment(token), stdout=log, stderr=log, start_new_session=True)
        while head.poll() is None:
            if "Ray runtime started" in (folder / LOG).read_text():
                return head, f"http://127.0.0.1:{ports['dashboard-port']}"
            time.sleep(0.2)
        end(head)
    raise RuntimeError(f"Ray did not start: {(folder / LOG).read_text()}")


def end(head: subprocess.Popen) -> None:
    """End a head, and whatever is left of what it started."""
    head.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        head.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different, and none that the system hands out before Ray listens there."""
    return list(itertools.islice(filter(is_free, random.sample(GIVEN_TO_NOBODY, len(GIVEN_TO_NOBODY))), count))


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port."""
    with socket.socket() as one:
        try:
            one.bind(("", port))
        except OSError:
            return False
        return True


def environment(token: str) -> dict[str, str]:
    """Return what the nodes of a cluster have: no credentials, and of Ray's variables the token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    rays = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    return kept | rays | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
