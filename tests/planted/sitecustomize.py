"""Makes the decoder's process do what a file asks for in its first bytes, as a file that breaks FFmpeg does; no other process.

It is found where this folder is on PYTHONPATH. `planted.file(deed)` makes such a file.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time


def _abort():
    os.abort()


def _segfault():
    ctypes.string_at(0)


def _loop():
    while True:
        pass


def _sleep():
    time.sleep(3600)


def _exhaust():
    return bytearray(8 << 30)


def _leave():
    os._exit(7)


def _raise():
    raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "planted")


def _kill():
    signal.raise_signal(signal.SIGKILL)


def _lie():
    os.write(int(sys.argv[2]), b"\xff\xff\xff\xff")


def _attempts():
    """Try what a compromised decoder would, and tell what came of it."""

    def thread():
        done = []
        threading.Thread(target=done.append, args=(1,)).start()
        return len(done)

    tries = {
        "socket": socket.socket,
        "write": lambda: os.open("/tmp/planted", os.O_WRONLY | os.O_CREAT),
        "read": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "fork": os.fork,
        "exec": lambda: os.execv("/bin/true", ["true"]),
        "spawn": lambda: subprocess.run(["/bin/true"], check=False),
        "kill": lambda: os.kill(os.getppid(), 0),
        "unlink": lambda: os.unlink("/tmp/planted"),
        "truncate": lambda: os.ftruncate(int(sys.argv[3]), 0),
        "ptrace": lambda: ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0) and _errno(),
        "threads": thread,
    }
    outcomes = []
    for name, attempt in tries.items():
        try:
            attempt()
            outcomes.append(f"{name}=done")
        except OSError as error:
            outcomes.append(f"{name}={error.errno}")
    raise RuntimeError(" ".join(outcomes))


def _errno():
    raise OSError(ctypes.get_errno(), "refused")


_DEEDS = {name[1:]: deed for name, deed in list(globals().items()) if name.startswith("_") and callable(deed)}

if "sep_batch.pipeline.audio.decoder_child" in sys.orig_argv:
    import av

    honest = av.open

    def _open(file, *args, **options):
        head = file.read(128)
        file.seek(0, 0)
        _, planted, rest = head.partition(b"PLANTED:")
        if planted:
            _DEEDS[rest.partition(b".")[0].decode()]()
        return honest(file, *args, **options)

    av.open = _open
