"""The decoder's process: it decodes what its parent sends it, one file after another, and may do nothing else.

FFmpeg is a million lines of C that read whatever the world calls a song. A file that breaks it breaks this process, which holds
no other track, no credentials and no open file, and the parent starts another. It imports NumPy and PyAV, and enters the sandbox
before it is sent the first byte.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import containers, decode_guard, decoding, messages, sandbox


class RefusedError(Exception):
    """The parent does not give the bytes that were asked for, and wants no more of this file."""


class Source(io.RawIOBase):
    """The file that is decoded, whose bytes the parent reads in whole blocks; two are kept, as headers are read again."""

    def __init__(self, child: Child, size: int) -> None:
        self._child, self._size, self._position = child, size, 0
        self._blocks = dict[int, bytes]()

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as one block goes."""
        if self._position >= self._size:
            return 0
        number, offset = divmod(self._position, messages.SOURCE_BYTES)
        content = self._block(number)[offset : offset + len(buffer)]
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * messages.SOURCE_BYTES
            block = self._child.read(start, min(messages.SOURCE_BYTES, self._size - start))
            self._blocks = dict([*self._blocks.items()][-1:]) | {number: block}
        return self._blocks[number]

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it."""
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def seekable(self) -> bool:
        """Tell that it is."""
        return True

    def readable(self) -> bool:
        """Tell that it is."""
        return True


class Child:
    """Answers the parent's requests."""

    def __init__(self, requests: int, replies: int, memory: int) -> None:
        self._requests, self._replies = requests, replies
        self._memory = mmap.mmap(memory, messages.MEMORY_BYTES)
        self._decoded_s: Callable[[], float] = float

    def serve(self) -> None:
        """Answer requests until the parent is gone."""
        with contextlib.suppress(messages.ClosedError):
            while True:
                self._answer(messages.receive(self._requests))

    def say(self, **message: Any) -> None:
        """Send the parent a message."""
        messages.send(self._replies, message)

    def read(self, offset: int, count: int) -> bytes:
        """Have the parent read some bytes of the file.

        Raises:
            RefusedError: It does not.
        """
        self.say(read=[offset, count], decoded_s=self._decoded_s())
        count_read = messages.receive(self._requests)["bytes"]
        if count_read is None:
            raise RefusedError
        return self._memory[messages.WAVE_BYTES : messages.WAVE_BYTES + count_read]

    def _answer(self, request: dict[str, Any]) -> None:
        source = io.BufferedReader(Source(self, request["size"]), messages.SOURCE_BYTES)
        self._decoded_s = float
        try:
            self.say(done=self._decode(source, request["decode"]) if "decode" in request else asdict(decoding.probe(source)))
        except RefusedError:
            self.say(refused=True)
        except errors.TrackError as error:
            self.say(failed=[error.error_class, str(error)])
        except MemoryError:
            os._exit(messages.MEMORY_EXIT)
        except messages.ClosedError:
            raise
        except Exception as error:  # noqa: BLE001 (whatever a file makes a library raise is that file's failure)
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.say(raised=f"{type(error).__name__}: {error} (in {os.path.basename(where.filename)}, line {where.lineno})")

    def _decode(self, source: Any, options: dict[str, Any]) -> dict[str, Any]:
        pieces, facts = decoding.decode(source, **options)
        self._decoded_s = lambda: facts.decoded_s
        for piece in pieces:
            for start in range(0, piece.shape[1], messages.WAVE_SAMPLES):
                if not self._hand_over(piece[:, start : start + messages.WAVE_SAMPLES], asdict(facts)):
                    return asdict(facts)
        return asdict(facts)

    def _hand_over(self, wave: np.ndarray, facts: dict[str, Any]) -> bool:
        """Give the parent a piece of the wave, (2, samples) float32, and tell whether it wants more."""
        samples = wave.shape[1]
        np.frombuffer(self._memory, np.float32, 2 * samples).reshape(2, samples)[:] = wave
        self.say(wave=samples, found=facts)
        return bool(messages.receive(self._requests)["more"])


def main(requests: int, replies: int, memory: int, parent: int) -> None:
    """Enter the sandbox, say so, and serve."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the whole group of processes: the parent decides
        signal.signal(number, signal.SIG_IGN)
    for kind in ("audio", "video", "subtitles"):  # imported by PyAV with the first stream of a kind
        for name in ("stream", "codeccontext"):
            importlib.import_module(f"av.{kind}.{name}")
    child = Child(requests, replies, memory)
    containers.announce = lambda name: child.say(container=name)
    decode_guard.statm()  # opened while files can be
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # nothing that a library prints reaches a terminal; the errors of a start, until here, did
        os.dup2(nothing, standard)
    child.say(ready=True, unfiltered=sandbox.enter(parent))
    child.serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
