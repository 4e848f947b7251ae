"""Orderly early end of a run, by a signal or a deadline: tracks in flight may finish. A second signal ends the run at once."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import threading
import time
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta
from types import FrameType
from typing import TypeVar

from sep_batch.pipeline import errors

DRAIN_S = 25.0  # for tracks in flight; schedulers kill 30 s after their signal
TICK_S = 0.5
WAITING = 1_000  # rows that the flow may be ahead of the driver; a row is a few kB, and a journal write may take minutes
PASSED_S = 6 * 3600  # a deadline's time of day that passed longer ago than this means tomorrow's
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # SIGHUP: the terminal is gone
_UNITS = {"h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
T = TypeVar("T")


class Stop:
    """Request for an early end of a run, with its reason."""

    def __init__(self) -> None:
        self._deadline = float("inf")
        self._asked_at = float("inf")
        self._is_draining = False
        self.why: str | None = None

    def end_after(self, seconds: float) -> None:
        """Ask the run to end after so many seconds from now."""
        self._deadline = time.monotonic() + seconds

    def ask(self, why: str) -> None:
        """Ask the run to end; tracks in flight may finish for `DRAIN_S` from now."""
        if self.why is None:
            self.why, self._asked_at = why, time.monotonic()

    @property
    def is_asked(self) -> bool:
        """True once the run shall start no further tracks."""
        if time.monotonic() >= self._deadline:
            self.ask("stopped at its deadline")
        return self.why is not None

    @property
    def is_over(self) -> bool:
        """True once the time for tracks in flight is over."""
        return self.is_asked and time.monotonic() >= self._asked_at + DRAIN_S

    @contextlib.contextmanager
    def draining(self) -> Iterator[None]:
        """Let the first signal ask for the end within the block; outside of it every signal interrupts at once."""
        self._is_draining = True
        try:
            yield
        finally:
            self._is_draining = False

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle SIGTERM, SIGINT and SIGHUP in the main thread; signals that are ignored, as under nohup, stay ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        former_handlers = {number: signal.signal(number, self._signalled) for number in numbers}
        try:
            yield
        finally:
            for number, handler in former_handlers.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self.why is not None or not self._is_draining:
            raise KeyboardInterrupt
        self.ask(f"stopped by {signal.Signals(number).name}")


def ticking(rows: Iterator[T]) -> Generator[T | None]:
    """Yield the items of an iterator as they come, and None every `TICK_S` while none comes.

    The iterator runs in a thread of its own, at most `WAITING` items ahead. When this generator is closed, the thread takes no
    further item and ends.
    """
    queued: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    room, is_closed = threading.Semaphore(WAITING), threading.Event()

    def put(row: T | None, error: BaseException | None) -> None:
        room.acquire()
        queued.put((row, error))

    def run() -> None:
        try:
            for row in rows:
                put(row, None)
                if is_closed.is_set():
                    return
            put(None, StopIteration())
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
            put(None, error)

    threading.Thread(target=run, daemon=True, name="flow").start()
    try:
        while True:
            try:
                row, error = queued.get(timeout=TICK_S)
            except queue.Empty:
                yield None
                continue
            room.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield row
    finally:
        is_closed.set()
        room.release()  # for the one row or error that the thread holds, or that its iterator still gives


def seconds_until(text: str, now: datetime) -> float:
    """Return the seconds from now to a deadline.

    Args:
        text: A duration, as 6h, 90m, 1h30m, or a time of day, as 06:00.
        now: The time now; without a time zone, it is in this machine's.

    Raises:
        UsageError: The text is neither.
        DeadlinePassedError: The time of day was less than `PASSED_S` ago: the run began late, and is not meant for tomorrow.
    """
    if clock := _CLOCK.fullmatch(text):
        return _seconds_until_clock(text, now, int(clock[1]), int(clock[2]))
    if duration := _DURATION.fullmatch(text):
        return float(sum(int(number or 0) * unit for number, unit in zip(duration.groups(), _UNITS.values(), strict=True)))
    raise errors.UsageError(f"--deadline {text}: expected a duration, as 6h or 1h30m, or a time of day, as 06:00")


def _seconds_until_clock(text: str, now: datetime, hour: int, minute: int) -> float:
    """Return the seconds to the next time that a clock shows this time of day; a day may have 23 or 25 hours."""
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    seconds = [(today + timedelta(days=days)).timestamp() - now.timestamp() for days in (-1, 0, 1)]
    passed_s, left_s = -max(number for number in seconds if number <= 0), min(number for number in seconds if number > 0)
    if passed_s >= PASSED_S:
        return left_s
    raise errors.DeadlinePassedError(
        f"--deadline {text} was {_span(passed_s)} ago: nothing was started. A time less than {PASSED_S // 3600} h ago does not "
        f"mean tomorrow; to run until {text} tomorrow, use --deadline {_span(left_s)}"
    )


def _span(seconds: float) -> str:
    """Return hours and minutes in the form that --deadline takes: 5m, 23h55m."""
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours}h{minutes}m" if hours else f"{minutes}m"
