"""One check of `doctor`: what was found, and what to do where it is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: Name of the thing that was checked.
        found: In words.
        state: ok; note: runs will work, worse than they could; wrong: they will not.
        advice: Next step for the user; empty where the check is ok.
    """

    name: str
    found: str
    state: Literal["ok", "note", "wrong"] = "ok"
    advice: str = ""


def note(name: str, state: str, advice: str) -> Check:
    """Return what runs will work with, worse than they could."""
    return Check(name, state, "note", advice)


def wrong(name: str, state: str, advice: str) -> Check:
    """Return what runs will not work with."""
    return Check(name, state, "wrong", advice)


def first_line(error: BaseException) -> str:
    """Return an error in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
