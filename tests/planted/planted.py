"""Files that make the decoder's process crash, hang or grow, where `sitecustomize` is beside this file on its path."""

from __future__ import annotations

import struct
from pathlib import Path

FOLDER = Path(__file__).parent
DIES_OF = {  # deed, and a part of the row's error
    "abort": "SIGABRT",
    "segfault": "SIGSEGV",
    "loop": "no answer for",
    "sleep": "no answer for",
    "exhaust": "needs more than 3 GiB of memory",
    "leave": "exit code 7",
    "raise": "UnicodeDecodeError",
    "lie": "invalid reply",
}


def file(deed: str, samples: int = 4_410) -> bytes:
    """Return a WAV of silence that asks for a deed."""
    asked = f"PLANTED:{deed}.".encode().ljust(32, b"\0")
    body = b"WAVE" + b"JUNK" + struct.pack("<I", len(asked)) + asked
    body += b"fmt " + struct.pack("<IHHIIHH", 16, 1, 2, 44_100, 176_400, 4, 16)
    body += b"data" + struct.pack("<I", 4 * samples) + bytes(4 * samples)
    return b"RIFF" + struct.pack("<I", len(body)) + body
