"""The lease: which run works on OUT. It saves work; no safety rests on it, since a run only ever adds to the journal.

`OUT/_sep/lease/<n>.json` is created where there is none; who created the highest n holds the lease, and rewrites it as a sign
of life. A lease is over when its run ended it, when its process is gone from this machine, when it is empty, or when it did not
change for `DEAD_S` of somebody's watching. Who finds it so creates n + 1, and of many one wins. The highest is never removed.

Clocks of two machines differ, so how old a sign of life is, the storage says itself: by the time at which it was written, and
that of an object which is written beside it now.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.retries import listing

BEAT_S = 20.0
DEAD_S = 90.0
LOOK_S = 2.0  # between two looks at somebody else's lease
_CLOCK = "clock"  # the object whose time of writing is the storage's time
_AHEAD_S = 5.0  # that a lease may be written after it was read; beyond it, the storage's clock was set back
_FILE = re.compile(r"(0[0-9]{5}|[1-9][0-9]{5,17})[.]json")  # as `_uri` writes numbers, and no other way
_RUN = re.compile(r"[0-9]{1,18}-[0-9a-f]{1,16}")
_SHOWN_CHARS = 60  # of a name, in a message


@dataclass(frozen=True)
class Found:
    """A lease as it lies there: its number, bytes, what they say (nothing, where they are no JSON), and when it was written."""

    number: int
    content: bytes
    says: dict[str, Any]
    modified: datetime | None

    @property
    def is_over(self) -> bool:
        """Tell whether its run has ended it, or is gone from this machine."""
        return bool(self.says.get("ended")) or (self.says.get("machine") == _machine() and not _lives(self.says))

    @property
    def silent_s(self) -> float:
        """Seconds since its last sign of life, by the storage's clock and this machine's, which may differ."""
        try:
            at = self.modified or datetime.fromisoformat(self.says["at"])
            return (datetime.now(UTC) - at).total_seconds()
        except (KeyError, ValueError, TypeError):
            return DEAD_S

    def __str__(self) -> str:
        known = (uris.printable(str(self.says.get(name, "?")), _SHOWN_CHARS) for name in ("run", "host", "pid", "since"))
        return "run {} on {} (pid {}) works on it since {}".format(*known)


@listing
def newest(out: str) -> Found | None:
    """Return OUT's highest lease, None where there was never one.

    Where the highest was removed before it could be read, there is a higher one.
    """
    number = max(_numbers(out), default=None)
    if number is None:
        return None
    content, modified = storage.read(_uri(out, number)), storage.info(_uri(out, number)).modified
    return Found(number, content, _said(content), modified)


def _said(content: bytes) -> dict[str, Any]:
    """Return what a lease says, without what no run writes: its words go into messages, and a run's name into paths."""
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
        wait_s: How long to wait where another run holds it.

    Raises:
        LeaseHeldError: Another run holds it, and still does after that time.
    """
    with _take(out, wait_s) as lease:
        yield lease


class Lease:
    """A lease that this run holds, until somebody takes it over."""

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
        with contextlib.suppress(errors.TrackError):  # whoever comes next will see that this process is gone
            self.tell(ended=True)

    def check(self) -> None:
        """Make sure that nobody has taken the lease over.

        Raises:
            LeaseHeldError: Somebody has.
        """
        if (highest := max(_numbers(self._out), default=0)) > self._number:
            raise errors.LeaseHeldError(f"OUT {self._out}: another run took it over (lease {highest}); this one ends")

    def tell(self, **words: object) -> None:
        """Say more in the lease, as `run=...`; it is a sign of life too."""
        self._says |= words | {"at": _now()}
        storage.put(_uri(self._out, self._number), _bytes(self._says), scratch=layout.parts_folder(self._out, "lease"))

    def _beat_often(self) -> None:
        while not self._ended.wait(BEAT_S):
            with contextlib.suppress(errors.TrackError):  # the next beat may come through; the journal says what does not
                self.tell()


def _take(out: str, wait_s: float) -> Lease:
    begun = changed = time.monotonic()
    seen: bytes | None = None
    is_alive: bool | None = None  # as far as it is known
    while True:
        holder, now = newest(out), time.monotonic()
        if holder and holder.content != seen:
            is_alive = None if seen is None else True
            seen, changed = holder.content, now
        if holder is None or holder.is_over or now - changed >= (DEAD_S if holder.content else LOOK_S):
            if lease := _created(out, holder.number + 1 if holder else 1):
                return lease
            continue
        # one that may be dead is watched until it is known to be, whether or not somebody waits
        if now - begun >= wait_s:
            is_alive = _is_fresh(out, holder) if is_alive is None else is_alive
            if is_alive and holder.content:
                raise errors.LeaseHeldError(f"OUT {out}: {holder}; --wait SECONDS waits for its end")
        time.sleep(LOOK_S)


def _is_fresh(out: str, holder: Found) -> bool:
    """Tell whether a lease was written less than `DEAD_S` ago, by the storage's own clock; False where that is not known."""
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
    if max(numbers) > number:  # another run had created this one, and a later run has removed it
        storage.remove(_uri(out, number))
        return None
    for older in numbers:
        if older < number:
            storage.remove(_uri(out, older))
    return Lease(out, number, says)


def _numbers(out: str) -> list[int]:
    matches = (_FILE.fullmatch(uris.name(one.uri)) for one in storage.find(layout.lease_folder(out)))
    return [int(match[1]) for match in matches if match]


def _uri(out: str, number: int) -> str:
    return f"{layout.lease_folder(out)}/{number:06d}.json"


def _bytes(says: dict[str, Any]) -> bytes:
    return json.dumps(says, sort_keys=True).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _machine() -> str:
    """Return what only processes that can see each other's ids share: the machine's boot, and their namespace."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"


def _born(pid: int) -> int | None:
    """Return when a process began, in ticks since the boot; None where there is none: ids are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat.rpartition(") ")[2].split()
    return None if state in "ZX" else int(fields[18])


def _lives(says: dict[str, Any]) -> bool:
    return isinstance(says.get("pid"), int) and _born(says["pid"]) == says.get("born")
