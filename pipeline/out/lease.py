"""The lease: which run works on OUT. It saves work; correctness does not rest on it, since a run only ever adds to the journal.

`OUT/_sep/lease/<n>.json` is created only if it does not exist. The run that created the highest n holds the lease, and rewrites
it as a heartbeat. A lease is over when its run ended it, when its process is gone from this machine, or when another run has
watched it for `DEAD_S` (for `LOOK_S` if it is empty) and it did not change. That run creates n + 1; of several, one wins. The
highest is never removed.

Clocks of two machines differ, so the storage's own clock measures the age of a heartbeat: the lease's modification time is
compared with that of an object written beside it now.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing

BEAT_S = 20.0
DEAD_S = 90.0
LOOK_S = 2.0  # between two reads of another run's lease
_CLOCK = "clock"  # object whose modification time is the storage's time
_AHEAD_S = 5.0  # that a lease may be younger than the clock object; beyond it, the storage's clock was set back
_FILE = re.compile(r"(0[0-9]{5}|[1-9][0-9]{5,17})[.]json")  # numbers exactly as `_uri` writes them
_RUN = re.compile(r"[0-9]{1,18}-[0-9a-f]{1,16}")
_SHOWN_CHARS = 60  # of a value, in a message


@dataclass(frozen=True)
class StoredLease:
    """A lease as stored: its number, its bytes, their fields (none if they are no JSON), and its modification time."""

    number: int
    content: bytes
    says: dict[str, Any]
    modified: datetime | None

    @property
    def is_over(self) -> bool:
        """True if its run has ended it, or is gone from this machine."""
        return bool(self.says.get("ended")) or (self.says.get("machine") == _machine() and not _lives(self.says))

    @property
    def silent_s(self) -> float:
        """Seconds since its last heartbeat, from the storage's clock to this machine's, which may differ."""
        try:
            at = self.modified or datetime.fromisoformat(self.says["at"])
            return (datetime.now(UTC) - at).total_seconds()
        except (KeyError, ValueError, TypeError):
            return DEAD_S

    @property
    def state(self) -> Literal["running", "silent", "ended", "gone"]:
        """State of its run; silent: no heartbeat for `DEAD_S`; gone: its process died on this machine."""
        if self.is_over:
            return "ended" if self.says.get("ended") else "gone"
        return "running" if self.silent_s < DEAD_S else "silent"

    def __str__(self) -> str:
        values = (uris.printable(str(self.says.get(name, "?")), _SHOWN_CHARS) for name in ("run", "host", "pid", "since"))
        return "run {} on {} (pid {}) has been working on it since {}".format(*values)


@listing
def newest(out: str) -> StoredLease | None:
    """Return OUT's highest lease; None if there was never one.

    If the highest was removed before it could be read, there is a higher one, and the leases are listed again.
    """
    number = max(_numbers(out), default=None)
    if number is None:
        return None
    content, modified = storage.read(_uri(out, number)), storage.info(_uri(out, number)).modified
    return StoredLease(number, content, _fields(content), modified)


def _fields(content: bytes) -> dict[str, Any]:
    """Return a lease's fields, without those that no run writes so: they go into messages, and the run's name into paths."""
    try:
        says = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(says, dict):
        return {}
    texts = ("run", "host", "since", "at", "machine", "token")
    is_odd = {name for name in texts if not isinstance(says.get(name, ""), str)}
    is_odd |= {"run"} if "run" in says and not _RUN.fullmatch(str(says["run"])) else set()
    is_odd |= {"pid"} if type(says.get("pid", 0)) is not int else set()
    return {name: value for name, value in says.items() if name not in is_odd}


@contextmanager
def hold(out: str, *, wait_s: float = 0.0) -> Iterator[Lease]:
    """Hold OUT's lease until the block ends.

    Args:
        out: OUT.
        wait_s: Seconds to wait while another run holds it.

    Raises:
        LeaseHeldError: Another run still holds it after that time.
    """
    with _take(out, wait_s) as lease:
        yield lease


class Lease:
    """A lease that this run holds, until another run takes it over."""

    def __init__(self, out: str, number: int, says: dict[str, Any]) -> None:
        self._out, self._number, self._says = out, number, says
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_often, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(errors.TrackError):  # the next run sees that this process is gone
            self.tell(ended=True)

    def check(self) -> None:
        """Check that no other run has taken over the lease.

        Raises:
            LeaseHeldError: Another run has.
        """
        if (highest := max(_numbers(self._out), default=0)) > self._number:
            raise errors.LeaseHeldError(f"OUT {self._out}: another run took it over (lease {highest}); this run ends")

    def tell(self, **fields: object) -> None:
        """Set fields of the lease, as `run=...`; this is a heartbeat too."""
        self._says |= fields | {"at": _now()}
        storage.put(_uri(self._out, self._number), _bytes(self._says), scratch=layout.parts_folder(self._out, "lease"))

    def _beat_often(self) -> None:
        while not self._ended.wait(BEAT_S):
            with contextlib.suppress(errors.TrackError):  # the next heartbeat may succeed; the journal reports storage that fails
                self.tell()


def _take(out: str, wait_s: float) -> Lease:
    begun = changed = time.monotonic()
    last_content: bytes | None = None
    is_alive: bool | None = None  # None while it is unknown
    while True:
        holder, now = newest(out), time.monotonic()
        if holder and holder.content != last_content:
            is_alive = None if last_content is None else True
            last_content, changed = holder.content, now
        if holder is None or holder.is_over or now - changed >= (DEAD_S if holder.content else LOOK_S):
            if lease := _created(out, holder.number + 1 if holder else 1):
                return lease
            continue
        # a lease that may be dead is watched until that is certain, even with wait_s = 0
        if now - begun >= wait_s:
            is_alive = _is_fresh(out, holder) if is_alive is None else is_alive
            if is_alive and holder.content:
                raise errors.LeaseHeldError(f"OUT {out}: {holder}; --wait SECONDS waits for its end")
        time.sleep(LOOK_S)


def _is_fresh(out: str, holder: StoredLease) -> bool:
    """Return whether a lease was written less than `DEAD_S` ago, by the storage's own clock; False if that is unknown."""
    if holder.modified is None:
        return False
    uri = f"{layout.lease_folder(out)}/{_CLOCK}"
    storage.put(uri, b"now", scratch=layout.parts_folder(out, "lease"))
    now = storage.info(uri).modified
    return now is not None and -_AHEAD_S <= (now - holder.modified).total_seconds() < DEAD_S


def _created(out: str, number: int) -> Lease | None:
    says = {"machine": _machine(), "host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}
    says |= {"token": secrets.token_hex(8), "since": _now(), "at": _now()}
    if not storage.create(_uri(out, number), _bytes(says)):
        return None
    numbers = _numbers(out)
    if max(numbers) > number:  # this number had existed, and a later run has removed it
        storage.remove(_uri(out, number))
        return None
    for older in numbers:
        if older < number:
            storage.remove(_uri(out, older))
    return Lease(out, number, says)


def _numbers(out: str) -> list[int]:
    matches = (_FILE.fullmatch(uris.name(info.uri)) for info in storage.find(layout.lease_folder(out)))
    return [int(match[1]) for match in matches if match]


def _uri(out: str, number: int) -> str:
    return f"{layout.lease_folder(out)}/{number:06d}.json"


def _bytes(says: dict[str, Any]) -> bytes:
    return json.dumps(says, sort_keys=True).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _machine() -> str:
    """Return a text that only processes which see each other's ids share.

    It is made of boot id and pid namespace on Linux, of the host's name and network address elsewhere.
    """
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():012x}"


def _born(pid: int) -> int | str | None:
    """Return a process's start time; None if it is gone. Process ids are used again.

    It is in ticks since boot on Linux, and as the command ps shows it elsewhere.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None if os.path.exists("/proc/self/stat") else _born_by_ps(pid)
    state, *fields = stat.rpartition(") ")[2].split()
    return None if state in "ZX" else int(fields[18])


def _born_by_ps(pid: int) -> str | None:
    environment = os.environ | {"LC_ALL": "C", "TZ": "UTC"}  # two users' times must read the same
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    try:
        shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 (a fixed command)
    except OSError:  # no ps: every process may be alive, so a lease ends by its age
        return "unknown"
    state, _, since = shown.stdout.strip().partition(" ")
    return since.strip() if since and not state.startswith("Z") else None


def _lives(says: dict[str, Any]) -> bool:
    return isinstance(says.get("pid"), int) and _born(says["pid"]) == says.get("born")
