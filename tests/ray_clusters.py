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
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

PORTS = (
    *("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "runtime-env-agent-port"),
    *("ray-client-server-port", "node-manager-port", "object-manager-port", "metrics-export-port"),
)
GIVEN_TO_NOBODY = range(20_000, 32_000)
START_S, STOP_S = 120.0, 30.0


@contextlib.contextmanager
def cluster(token: str, num_cpus: int = 2) -> Iterator[str]:
    """Run a cluster that takes TOKEN, with this Python's sep-batch and no AWS variables; yields its dashboard's URL."""
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    url = f"http://127.0.0.1:{ports['dashboard-port']}"
    with tempfile.TemporaryDirectory(prefix="sep-ray-", ignore_cleanup_errors=True) as folder:  # its sockets' paths must be short
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--num-cpus={num_cpus}"]
        command += [
            "--include-dashboard=true",
            "--dashboard-host=127.0.0.1",
            f"--temp-dir={folder}",
            f"--object-store-memory={300 << 20}",
        ]
        command += [f"--{name}={port}" for name, port in ports.items()]
        with (Path(folder) / "start.log").open("w") as log:
            head = subprocess.Popen(command, env=environment(token), stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(url, head, Path(folder) / "start.log")
            yield url
            if head.poll() is not None:
                raise RuntimeError(f"Ray ended by itself: {(Path(folder) / 'start.log').read_text()}")
        finally:
            head.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                head.wait(STOP_S)
            with contextlib.suppress(ProcessLookupError):  # what is left of it, or was started by it
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


def wait_for(url: str, head: subprocess.Popen, log: Path) -> None:
    """Wait until the dashboard answers, as it does without a token too: with a refusal."""
    end = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(f"{url}/api/version", timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            if head.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Ray did not start: {log.read_text()}") from None
            time.sleep(0.2)
