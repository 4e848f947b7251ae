"""What a test sees of a process beyond its results: files written, connections made, files opened by native code."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {  # of each audit event, where its paths are and, for each, the folder that it is relative to
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
}
_IN_ACCESS, _IN_OPEN = 0x01, 0x20


@dataclass
class Seen:
    """What Python's own calls did.

    Attributes:
        changed: Paths opened for writing, made, moved or removed.
        connected: Addresses, and names that were looked up.
    """

    changed: set[str] = field(default_factory=set)
    connected: list[str] = field(default_factory=list)

    def outside(self, *folders: Path) -> set[str]:
        """Return what was changed below none of these folders; devices and bytecode do not count."""
        inside = (*(f"{folder}/" for folder in folders), "/dev/", "/proc/")
        return {path for path in self.changed if not f"{path}/".startswith(inside) and "__pycache__" not in path}


_watching: list[Seen] = []


def _hook(event: str, arguments: tuple) -> None:
    for seen in _watching:
        if event == "open" and isinstance(arguments[0], (str, bytes)) and (arguments[2] or 0) & _WRITES:
            seen.changed.add(os.path.abspath(os.fsdecode(arguments[0])))
        for path, folder in _CHANGES.get(event, ()):
            base = os.getcwd() if arguments[folder] < 0 else os.readlink(f"/proc/self/fd/{arguments[folder]}")
            seen.changed.add(os.path.join(base, os.fsdecode(arguments[path])))
        if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            seen.connected.append(str(arguments[-1] if event == "socket.connect" else arguments[0]))


sys.addaudithook(_hook)


@contextlib.contextmanager
def watching() -> Iterator[Seen]:
    """Watch this process."""
    seen = Seen()
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching.remove(seen)


class Bait:
    """A file, and a server on loopback, that nobody may touch."""

    def __init__(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.path = path
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert libc.inotify_add_watch(self._events, os.fsencode(path), _IN_ACCESS | _IN_OPEN) > 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0)
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}/song.mp3"

    def was_opened(self) -> bool:
        """Tell whether any process opened the file since it was last asked."""
        try:
            return bool(os.read(self._events, 4096))
        except BlockingIOError:
            return False

    def was_called(self) -> bool:
        """Tell whether anybody connected to the server."""
        try:
            self._server.accept()[0].close()
            return True
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Let go of both."""
        os.close(self._events)
        self._server.close()
