"""One check of `doctor`: its result, and the next step if there is a fault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: Name of the thing that was checked.
        found: Result in words.
        state: ok; note: runs work, but worse than they could; wrong: runs do not work.
        advice: Next step for the user; empty where the check is ok.
    """

    name: str
    found: str
    state: Literal["ok", "note", "wrong"] = "ok"
    advice: str = ""


def note(name: str, result: str, advice: str) -> Check:
    """Return the check of a thing with which runs work, but worse than they could."""
    return Check(name, result, "note", advice)


def wrong(name: str, result: str, advice: str) -> Check:
    """Return the check of a thing with which runs do not work."""
    return Check(name, result, "wrong", advice)
