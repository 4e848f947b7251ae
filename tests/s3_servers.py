"""The S3 servers of the tests: Swift, which checks what it is asked, and moto's mock where Swift cannot run."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from project_files import ROOT

SERVE = (str(ROOT / ".venv-swift" / "bin" / "python"), str(ROOT / "infra" / "object-store" / "serve.py"))
STOP_S = 30.0


def why_not_swift(folder: Path) -> str | None:
    """Return what Swift lacks here; None where it can run, with its objects in FOLDER."""
    if not (ROOT / ".venv-swift" / "bin" / "swift-proxy-server").exists():
        return "there is no .venv-swift (make swift)"
    try:
        os.setxattr(folder, "user.sep_batch", b"")
    except OSError as error:
        return f"{folder} has no user extended attributes ({error.strerror})"
    return None


@contextlib.contextmanager
def swift(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    """Run Swift with the session's key, its objects in FOLDER; yields its launcher."""
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*SERVE, str(folder), "--port", str(port)], stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        if not server.stdout.readline():
            raise RuntimeError(f"Swift did not start: {(folder / 'log').read_text()}")
        yield server
    finally:
        server.terminate()
        server.wait(STOP_S)
        server.stdout.close()


@contextlib.contextmanager
def moto(port: int) -> Iterator[None]:
    """Run moto's server in a thread."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        yield
    finally:
        server.stop()
