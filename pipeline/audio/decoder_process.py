"""A decoder's child process from its parent's side: start it, send it files, watch it, and kill it over its limits."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import messages
from sep_batch.pipeline.audio.sandbox import ADDRESS_SPACE_BYTES

CPU_S = 60.0  # CPU time for one file, beyond the duration of the decoded audio
START_S = 60.0  # wall-clock time for a child to start on a busy machine; 0.4 s on an idle one
_LOOK_S = 0.5  # between two checks of a silent child
_PROGRAM = "sep_batch.pipeline.audio.decoder_child"
# prefixes of the variables that a child gets
_ENVIRONMENT = ("LD_", "DYLD_", "PYTHON", "OPENBLAS_", "LANG", "LC_", "VIRTUAL_ENV")
_F_SEAL_SHRINK = 0x0002
_CLASSES = {kind.error_class: kind for kind in errors.TrackError.__subclasses__()}
Read = Callable[[int, int], bytes]  # takes an offset and a number of bytes


class DecoderDiedError(Exception):
    """The child process ended while it worked on a file.

    Attributes:
        may_be_others: An earlier file may have caused it.
        transient: The machine may have caused it.
    """

    def __init__(self, reason: str, *, may_be_others: bool = False, transient: bool = False) -> None:
        super().__init__(reason)
        self.may_be_others, self.transient = may_be_others, transient


class DecoderProcess:
    """A child process that decodes one file after another, until one of them crashes it.

    Attributes:
        files: Number of files it was sent.
        container: Container of the last file, as the child identified it.
        is_idle: The child waits for the next file.
        unfiltered: The reason why the child runs without a system call filter; empty where it has one.
    """

    def __init__(self) -> None:
        """Start the process, and wait until it has entered its sandbox.

        Raises:
            DecoderDiedError: The process does not start.
        """
        self.files, self.container, self.is_idle = 0, "", False
        self._unread, self._cpu_begun_s = bytearray(), 0.0
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        shared = _shared_memory()
        self._memory = mmap.mmap(shared, messages.MEMORY_BYTES)
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN)
        try:
            self._popen = _STARTER[0].submit(_start, (requests, replies, shared)).result()
        except OSError as error:
            raise DecoderDiedError(f"cannot be started: {error}", transient=True) from error
        finally:
            for descriptor in (requests, replies, shared):
                os.close(descriptor)
        try:
            self.unfiltered = str(self._receive(START_S).get("unfiltered", ""))
        except DecoderDiedError:
            self.end()
            raise
        self.is_idle = True

    def run(
        self, request: Mapping[str, Any], read: Read, silent_s: float
    ) -> Generator[tuple[np.ndarray, dict[str, Any]], None, dict[str, Any]]:
        """Have the child work on one file.

        Args:
            request: Request, as `decoder_child` takes it.
            read: Called with an offset in the file and a number of bytes; an error of it ends the work, and is raised here.
            silent_s: Seconds of wall-clock time that the child may stay silent.

        Yields:
            A piece of the wave, (2, samples) float32, and the facts so far.

        Returns:
            The child's final facts.

        Raises:
            DecoderDiedError: The child died, or exceeded a limit.
            TrackError: Decoding or reading the file failed.
        """
        self.files, self.container, self.is_idle = self.files + 1, "", False
        self._cpu_begun_s = self._cpu_s()
        self._send(request)
        refused: BaseException | None = None
        decoded_s = 0.0
        while True:
            message = self._receive(silent_s, decoded_s)
            decoded_s = message.get("decoded_s", decoded_s)
            if "wave" in message:
                decoded_s = message["found"]["decoded_s"]
                yield from self._hand_on(message, silent_s)
            elif "read" in message:
                refused = self._answer_read(message["read"], read)
            elif "container" in message:
                self.container = str(message["container"])
            elif "raised" in message:
                raise DecoderDiedError(f"raised {message['raised']}", may_be_others=True)
            else:
                self.is_idle = True
                if refused is not None:
                    raise refused
                return _result(message)

    def end(self) -> None:
        """Kill the child."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.kill()
        self._popen.wait()
        for pipe in (self._requests, self._replies):
            os.close(pipe)
        self._memory.close()

    def _hand_on(self, message: dict[str, Any], silent_s: float) -> Generator[tuple[np.ndarray, dict[str, Any]], None, None]:
        samples = message["wave"]
        if not 0 < samples <= messages.WAVE_SAMPLES:
            raise DecoderDiedError("sent an invalid reply")
        wave = np.frombuffer(self._memory, np.float32, 2 * samples).reshape(2, samples).copy()
        is_wanted = False
        try:
            yield wave, message["found"]
            is_wanted = True
        finally:
            self._send({"more": is_wanted})
            if not is_wanted:
                self._receive(silent_s)  # its final reply on this file
                self.is_idle = True

    def _answer_read(self, request: tuple[int, int], read: Read) -> BaseException | None:
        """Put bytes of the file into the shared memory; return the error where reading failed."""
        offset, count = request
        try:
            content = read(offset, min(count, messages.SOURCE_BYTES))
        except Exception as error:  # noqa: BLE001 (raised by `run`, once the child has given the file up)
            self._send({"bytes": None})
            return error
        self._memory[messages.WAVE_BYTES : messages.WAVE_BYTES + len(content)] = content
        self._send({"bytes": len(content)})
        return None

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            messages.send(self._requests, message)
        except messages.ClosedError:
            raise self._death() from None

    def _receive(self, silent_s: float, decoded_s: float = 0.0) -> dict[str, Any]:
        waiting_since_s = time.monotonic()
        try:
            while (message := messages.take(self._unread)) is None:
                if self._poll.poll(_LOOK_S * 1000):
                    if not (more := os.read(self._replies, messages.SOURCE_BYTES)):
                        raise self._death()
                    self._unread += more
                elif time.monotonic() - waiting_since_s > silent_s:
                    raise DecoderDiedError(f"was stopped: no answer for {silent_s:g} s")
                elif (spent_s := self._cpu_s() - self._cpu_begun_s) > CPU_S + decoded_s:
                    raise DecoderDiedError(f"was stopped: {spent_s:.0f} s of CPU time for {decoded_s:.1f} s of audio")
        except messages.ClosedError:
            raise DecoderDiedError("sent an invalid reply") from None
        return message

    def _death(self) -> DecoderDiedError:
        """Return the error that says why the child ended."""
        try:
            code = self._popen.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            return DecoderDiedError("closed its pipes")
        if code == messages.MEMORY_EXIT:
            return DecoderDiedError(f"needs more than {ADDRESS_SPACE_BYTES >> 30} GiB of memory")
        if code >= 0:
            return DecoderDiedError(f"ended with exit code {code}", may_be_others=True)
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL:  # not from this process: the kernel sends it where the machine's memory runs out
            return DecoderDiedError(
                f"was killed ({name}), possibly because the machine ran out of memory", may_be_others=True, transient=True
            )
        return DecoderDiedError(f"crashed ({name})", may_be_others=True)

    def _cpu_s(self) -> float:
        """Return the CPU time that the child has used."""
        with contextlib.suppress(OSError):  # it has ended
            return time.clock_gettime((~self._popen.pid << 3) | 2)  # the kernel's number of a process's CPU clock
        return 0.0


def _shared_memory() -> int:
    """Return the descriptor of memory that both processes map: a memfd, or outside of Linux a file without a name."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            file.truncate(messages.MEMORY_BYTES)
            return os.dup(file.fileno())
    shared = os.memfd_create("sep-batch-decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(shared, messages.MEMORY_BYTES)
    fcntl.fcntl(shared, fcntl.F_ADD_SEALS, _F_SEAL_SHRINK)  # else a child that shrinks it could crash this process
    return shared


def _result(message: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of the final reply on a file, or raise its error."""
    if "failed" in message:
        name, text = message["failed"]
        raise _CLASSES.get(name, errors.DecodeError)(text)
    if "done" not in message:
        raise DecoderDiedError("sent an invalid reply")
    return dict(message["done"])


def _start(descriptors: tuple[int, int, int]) -> subprocess.Popen[bytes]:
    """Start the child, in a thread that lasts as long as this process: the kernel kills the child when the thread ends."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    environment = {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)}
    environment |= {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-m", _PROGRAM, *map(str, descriptors), str(os.getpid())]
    return subprocess.Popen(  # noqa: S603 (a program of this package)
        command,
        pass_fds=descriptors,
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        process_group=0,  # a Ctrl-C while it starts would end it
    )


_STARTER = [ThreadPoolExecutor(1, "decoder-starter")]
os.register_at_fork(after_in_child=lambda: _STARTER.__setitem__(0, ThreadPoolExecutor(1, "decoder-starter")))
