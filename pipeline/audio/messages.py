"""Messages between the decoder's process and its parent: JSON of a known length, over pipes; never a pickle.

Audio and the bytes of files travel beside them, in memory that both processes map: a memfd, so that no /dev/shm is needed.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from typing import Any

WAVE_SAMPLES = 1 << 17  # of both channels, handed over at once
SOURCE_BYTES = 1 << 18  # of the file, handed over at once
WAVE_BYTES = 2 * 4 * WAVE_SAMPLES  # float32 stereo, at the start of the memory
MEMORY_BYTES = WAVE_BYTES + SOURCE_BYTES
MEMORY_EXIT = 3  # exit code of the decoder's process after a file that needed more memory than a file may
_LENGTH = struct.Struct("<I")
_LONGEST_BYTES = 1 << 20


class ClosedError(Exception):
    """The other process is gone."""


def send(pipe: int, message: Mapping[str, Any]) -> None:
    """Write one message.

    Raises:
        ClosedError: Nobody reads it any more.
    """
    content = json.dumps(message).encode()
    try:
        os.write(pipe, _LENGTH.pack(len(content)) + content)
    except BrokenPipeError as error:
        raise ClosedError from error


def receive(pipe: int) -> dict[str, Any]:
    """Read one message; wait for it.

    Raises:
        ClosedError: The other process is gone.
    """
    content = bytearray()
    while (message := take(content)) is None:
        if not (more := os.read(pipe, _awaited(content))):
            raise ClosedError
        content += more
    return message


def take(content: bytearray) -> dict[str, Any] | None:
    """Take the first message out of what was read so far, None where it is not whole yet.

    Raises:
        ClosedError: It is no message.
    """
    if _awaited(content):
        return None
    end = _LENGTH.size + _LENGTH.unpack_from(content)[0]
    try:
        message = json.loads(content[_LENGTH.size : end])
    except ValueError as error:
        raise ClosedError from error
    if not isinstance(message, dict):
        raise ClosedError
    del content[:end]
    return message


def _awaited(content: bytearray) -> int:
    """Return how many bytes the first message lacks, as far as that is known."""
    if len(content) < _LENGTH.size:
        return _LENGTH.size - len(content)
    (length,) = _LENGTH.unpack_from(content)
    if length > _LONGEST_BYTES:
        raise ClosedError
    return max(0, _LENGTH.size + int(length) - len(content))
