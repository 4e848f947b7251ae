"""Call a function at intervals, in a thread, while a block runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def every(seconds: float, function: Callable[[], None], *, thread_name: str) -> Iterator[None]:
    """Call a function at intervals until the block ends; no call is running after that.

    Args:
        seconds: Seconds before the first call, and between two calls.
        function: Function without arguments.
        thread_name: Name of the thread.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            function()

    thread = threading.Thread(target=repeat, daemon=True, name=thread_name)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
