"""What a test plans to go wrong between an S3 client and its server."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What goes wrong."""

    INTERNAL_ERROR = "500 InternalError"
    SLOW_DOWN = "503 SlowDown"
    EXPIRED_TOKEN = "403 ExpiredToken"
    EXPIRED_TOKEN_400 = "400 ExpiredToken"
    RESET_BEFORE = "reset after the request's head: the server sees nothing of it"
    RESET_AMID = "reset amid the answer's body"
    TRUNCATE = "closed in good order amid the answer's body, short of its Content-Length"
    DROP = "done by the server, then reset without an answer"
    STALL = "no byte for a while, then all the rest"
    FLIP = "one bit of the answer's body is another"


ERRORS = {Kind.INTERNAL_ERROR, Kind.SLOW_DOWN, Kind.EXPIRED_TOKEN, Kind.EXPIRED_TOKEN_400}  # answered without asking the server


@dataclass(eq=False)
class Fault:
    """One entry of a plan. `fired` counts how often it was played.

    Args:
        kind: What goes wrong.
        method: Of the requests that it matches; any where "".
        key: A part of their path and query, percent-decoded: "stems/", "partNumber=2", "list-type=2".
        nth: The first of them that it hits, from 1.
        times: How many of them it hits, one after the other; math.inf for all.
        at: Bytes of the answer's body that come before it; half of them where None, for STALL not even the head.
        seconds: How long STALL lasts.
    """

    kind: Kind
    method: str = ""
    key: str = ""
    nth: int = 1
    times: float = 1
    at: int | None = None
    seconds: float = 60.0
    seen: int = field(default=0, init=False)
    fired: int = field(default=0, init=False)

    def due(self, method: str, target: str) -> bool:
        """Count a request where it matches, and tell whether it is one to hit."""
        if self.method not in {"", method} or self.key not in target:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times
