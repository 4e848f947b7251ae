"""A filter for Swift's pipeline: of several clients that create one object at the same time, one succeeds.

Swift checks for the object when a conditional put begins, and not again when it ends: of ten at once, three or four succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from weakref import WeakValueDictionary

from eventlet.semaphore import Semaphore
from swift.common.utils import closing_if_possible

App = Callable[[dict, Callable], Iterable[bytes]]


def filter_factory(_global: dict, **_local: str) -> Callable[[App], App]:
    """Return the filter, by Paste Deploy's convention."""
    return one_winner


def one_winner(app: App) -> App:
    """Pass conditional writes to one path on one after the other."""
    writing: WeakValueDictionary[str, Semaphore] = WeakValueDictionary()  # one process: there is one proxy server

    def filtered(env: dict, start_response: Callable) -> Iterable[bytes]:
        if env["REQUEST_METHOD"] not in {"PUT", "POST"} or "HTTP_IF_NONE_MATCH" not in env:
            return app(env, start_response)
        with writing.setdefault(env["PATH_INFO"], Semaphore()):
            answer = app(env, start_response)
            with closing_if_possible(answer):
                return list(answer)  # a multipart upload is completed while its answer is read

    return filtered
