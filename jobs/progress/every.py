"""A function that is called at intervals, in a thread, while a block runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def every(seconds: float, function: Callable[[], None], *, thread_name: str) -> Iterator[None]:
    """Call a function every so many seconds until the block ends; it is not called any more then.

    Args:
        seconds: Seconds between two calls; the first comes after so many.
        function: The function; it takes nothing.
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
