"""Messages between a decoder's child process and its parent: length-prefixed JSON over pipes; never a pickle.

Audio and the bytes of files are passed in memory that both processes map: a memfd, so that no /dev/shm is needed.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from typing import Any

WAVE_SAMPLES = 1 << 17  # per channel, passed at once
SOURCE_BYTES = 1 << 18  # of the file, passed at once
WAVE_BYTES = 2 * 4 * WAVE_SAMPLES  # float32 stereo, at the start of the memory
MEMORY_BYTES = WAVE_BYTES + SOURCE_BYTES
MEMORY_EXIT = 3  # exit code of a child that reached its memory limit
_LENGTH = struct.Struct("<I")
_LONGEST_BYTES = 1 << 20


class ClosedError(Exception):
    """The other process has closed its end, or sent an invalid message."""


def send(pipe: int, message: Mapping[str, Any]) -> None:
    """Write one message.

    Raises:
        ClosedError: The reader has closed the pipe.
    """
    content = json.dumps(message).encode()
    try:
        os.write(pipe, _LENGTH.pack(len(content)) + content)
    except BrokenPipeError as error:
        raise ClosedError from error


def receive(pipe: int) -> dict[str, Any]:
    """Wait for one message, and return it.

    Raises:
        ClosedError: The other process has closed the pipe, or the message is invalid.
    """
    content = bytearray()
    while (message := take(content)) is None:
        if not (more := os.read(pipe, _awaited(content))):
            raise ClosedError
        content += more
    return message


def take(content: bytearray) -> dict[str, Any] | None:
    """Take the first message out of the bytes read so far; return None where it is incomplete.

    Raises:
        ClosedError: The bytes are not a message.
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
    """Return the number of bytes missing from the first message, or from its length prefix."""
    if len(content) < _LENGTH.size:
        return _LENGTH.size - len(content)
    (length,) = _LENGTH.unpack_from(content)
    if length > _LONGEST_BYTES:
        raise ClosedError
    return max(0, _LENGTH.size + int(length) - len(content))
