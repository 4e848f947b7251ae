"""The program of a decoder's child process: it decodes files of its parent, one after another, and may do nothing else.

FFmpeg is a million lines of C that read untrusted files. A file that crashes it crashes this process only, which holds no other
track, no credentials and no open file, and the parent starts another. It imports NumPy and PyAV, and enters the sandbox before it
receives the first byte.
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
from sep_batch.pipeline.audio import containers, decode_guard, decoding, messages, sandbox, tag_reader


class RefusedError(Exception):
    """The parent cannot read the requested bytes, and gives this file up."""


class Source(io.RawIOBase):
    """The file to decode, which the parent reads in whole blocks; the last two are kept, since headers are read again."""

    def __init__(self, child: Child, size: int) -> None:
        self._child, self._size, self._position = child, size, 0
        self._blocks = dict[int, bytes]()

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, at most to the end of one block."""
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
        """Move to an offset, and return the position."""
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True


class Child:
    """Answers the parent's requests."""

    def __init__(self, requests: int, replies: int, memory: int) -> None:
        self._requests, self._replies = requests, replies
        self._memory = mmap.mmap(memory, messages.MEMORY_BYTES)
        self._decoded_s: Callable[[], float] = float

    def serve(self) -> None:
        """Answer requests until the parent has ended."""
        with contextlib.suppress(messages.ClosedError):
            while True:
                self._answer(messages.receive(self._requests))

    def say(self, **message: Any) -> None:
        """Send the parent a message."""
        messages.send(self._replies, message)

    def read(self, offset: int, count: int) -> bytes:
        """Have the parent read some bytes of the file.

        Raises:
            RefusedError: The parent cannot read them.
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
            if "decode" in request:
                self.say(done=self._decode(source, request["decode"]))
            else:
                self.say(done=self._tags(source) if "tags" in request else asdict(decoding.probe(source)))
        except RefusedError:
            self.say(refused=True)
        except errors.TrackError as error:
            self.say(failed=[error.error_class, str(error)])
        except MemoryError:
            os._exit(messages.MEMORY_EXIT)
        except messages.ClosedError:
            raise
        except Exception as error:  # noqa: BLE001 (any error that a file causes in a library is that file's failure)
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

    def _tags(self, source: Any) -> dict[str, Any]:
        """Return the tags, after the cover's bytes were passed as a wave is: 8 bytes a sample, the last ones padded."""
        values, cover, warning = tag_reader.read(source)
        facts = {"values": values, "cover_bytes": len(cover), "warning": warning}
        samples = np.frombuffer(cover + bytes(-len(cover) % 8), np.float32).reshape(-1, 2).T
        for start in range(0, samples.shape[1], messages.WAVE_SAMPLES):
            if not self._hand_over(samples[:, start : start + messages.WAVE_SAMPLES], {"decoded_s": 0.0}):
                break
        return facts

    def _hand_over(self, wave: np.ndarray, facts: dict[str, Any]) -> bool:
        """Pass the parent a piece of the wave, (2, samples) float32; return whether it requests more."""
        samples = wave.shape[1]
        np.frombuffer(self._memory, np.float32, 2 * samples).reshape(2, samples)[:] = wave
        self.say(wave=samples, found=facts)
        return bool(messages.receive(self._requests)["more"])


def main(requests: int, replies: int, memory: int, parent: int) -> None:
    """Enter the sandbox, report it, and serve."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to the whole process group: the parent handles them
        signal.signal(number, signal.SIG_IGN)
    for kind in ("audio", "video", "subtitles"):  # imported by PyAV with the first stream of a kind
        for name in ("stream", "codeccontext"):
            importlib.import_module(f"av.{kind}.{name}")
    child = Child(requests, replies, memory)
    containers.announce = lambda name: child.say(container=name)
    decode_guard.statm()  # opened while files can be
    devnull = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # no library prints to the terminal; errors of the start, until here, do
        os.dup2(devnull, descriptor)
    child.say(ready=True, unfiltered=sandbox.enter(parent))
    child.serve()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
