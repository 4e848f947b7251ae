"""An object store on one machine: OpenStack Swift with its S3 API on loopback, for tests and for a first run against S3.

    .venv-swift/bin/python infra/object-store/serve.py FOLDER --port 9000

It accepts one key, that of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. It prints its endpoint when it is ready, and ends
with all its servers on SIGTERM or SIGINT, or when the program that started it ends. Objects stay in FOLDER.
"""

from __future__ import annotations

import argparse
import ctypes
import http.client
import multiprocessing
import os
import re
import signal
import socket
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import configuration

READY_S = 120.0
POLL_S = 0.05
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _check(folder: Path, port: int, key: str, secret: str) -> None:
    """Refuse in one line values that Swift would refuse in many lines, or not at all."""
    if not re.fullmatch(r"[A-Za-z0-9]+:[A-Za-z0-9]+", key):
        sys.exit(f"AWS_ACCESS_KEY_ID: found {key!r}, expected ACCOUNT:USER of letters and digits, such as sep:batch")
    if not re.fullmatch(r"[A-Za-z0-9+/=_.-]+", secret):
        sys.exit("AWS_SECRET_ACCESS_KEY: empty, or has characters other than letters, digits and + / = _ . -")
    try:
        os.setxattr(folder, "user.sep_batch", b"probe")
        os.removexattr(folder, "user.sep_batch")
    except OSError as error:
        sys.exit(f"{folder}: {error.strerror}; expected a file system with user extended attributes, such as ext4 or xfs")
    for address in configuration.ADDRESSES.values():  # Swift shares a port in use: requests would reach either server
        try:
            socket.create_server((address, port)).close()
        except OSError as error:
            sys.exit(f"{address}:{port}: {os.strerror(error.errno)}; expected a free port")


def _serve(folder: Path, kind: str, starter: int) -> None:
    """Run one of the servers in this process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    _end_with(starter, signal.SIGKILL)
    from swift.common import utils

    utils.SWIFT_CONF_FILE = str(configuration.swift_conf(folder))  # the following imports read it
    from swift.common.wsgi import run_wsgi

    sys.exit(run_wsgi(str(configuration.server_conf(folder, kind)), f"{kind}-server", verbose=True))


def _end_with(starter: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when the one that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != starter:
        sys.exit("the program that started this one has ended")


def _wait_until_ready(port: int, servers: list[BaseProcess]) -> None:
    limit = time.monotonic() + READY_S
    for kind, address in configuration.ADDRESSES.items():
        while not _answers(address, port):
            if wait([server.sentinel for server in servers], timeout=POLL_S) or time.monotonic() > limit:
                sys.exit(f"{address}:{port}: the {kind} server does not answer")


def _answers(address: str, port: int) -> bool:
    connection = http.client.HTTPConnection(address, port, timeout=READY_S)
    try:
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _run(folder: Path, port: int) -> None:
    """Start the servers, print the endpoint, and end with the first server that ends."""
    fork = multiprocessing.get_context("fork")
    servers = [fork.Process(target=_serve, args=(folder, kind, os.getpid())) for kind in configuration.ADDRESSES]
    try:
        for server in servers:
            server.start()
        _wait_until_ready(port, servers)
        sys.stdout.write(f"http://{configuration.ADDRESSES['proxy']}:{port}\n")
        sys.stdout.flush()
        wait([server.sentinel for server in servers])
        sys.exit("one of the servers has ended")
    finally:
        for server in multiprocessing.active_children():
            server.terminate()
            server.join()


def main() -> None:
    """Read the command line and the key, and run."""
    starter = os.getppid()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the objects; created if missing")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; also used on 127.0.0.2 to .4")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    key, secret = (os.environ.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"))
    _check(folder, arguments.port, key, secret)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    _end_with(starter, signal.SIGTERM)
    configuration.write(folder, arguments.port, key, secret)
    _run(folder, arguments.port)


if __name__ == "__main__":
    main()
