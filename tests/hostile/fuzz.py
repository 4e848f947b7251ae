"""Mutated files, decoded in a child that they may take with them. As a program it is that child: fuzz.py FIRST STOP.

File n is the same on every machine with the same FFmpeg: `mutated(n)` is its recipe.
"""

from __future__ import annotations

import faulthandler
import io
import math
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from craft import FORMATS, whole

SEED = 20_260
LIMIT_S = 20.0  # for one file, by the clock
TELLING = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1", b"\1\0\0\0", b"\x80\0\0\0")
_NAMES = tuple(FORMATS)


def mutated(number: int) -> bytes:
    """Return mutated file `number`: a small one of each format in turn, with one to four mutations; most keep their sign."""
    drawn = np.random.default_rng([SEED, number])
    honest = whole(_NAMES[number % len(_NAMES)], 0.5)
    content = bytearray(honest)
    for _ in range(drawn.integers(1, 5)):
        content = _MUTATIONS[drawn.integers(len(_MUTATIONS))](content, drawn)
    return bytes(content) if drawn.random() < 0.1 else honest[:12] + bytes(content[12:])


def _place(content: bytearray, drawn: np.random.Generator) -> int:
    """Draw a place, more often near the beginning, where the headers are."""
    return int(len(content) * drawn.random() ** drawn.choice([1, 3, 8]))


def _flip(content: bytearray, drawn: np.random.Generator) -> bytearray:
    for _ in range(drawn.integers(1, 65)):
        content[_place(content, drawn)] ^= 1 << int(drawn.integers(8))
    return content


def _tell(content: bytearray, drawn: np.random.Generator) -> bytearray:
    for _ in range(drawn.integers(1, 9)):
        start, value = _place(content, drawn), TELLING[drawn.integers(len(TELLING))]
        content[start : start + 4] = value[: len(content) - start]
    return content


def _run(content: bytearray, drawn: np.random.Generator) -> bytearray:
    start, length = _place(content, drawn), int(2 ** (drawn.random() * 12))
    filled = (bytes(length), b"\xff" * length, drawn.bytes(length))[drawn.integers(3)]
    content[start : start + length] = filled[: len(content) - start]
    return content


def _cut(content: bytearray, drawn: np.random.Generator) -> bytearray:
    return content[: max(16, _place(content, drawn))]


def _splice(content: bytearray, drawn: np.random.Generator) -> bytearray:
    """Drop a piece, double one, or put in one of another format."""
    start, length = _place(content, drawn), int(2 ** (drawn.random() * 14))
    other = whole(_NAMES[drawn.integers(len(_NAMES))], 0.5)
    piece = (b"", content[start : start + length] * 2, other[:length])[drawn.integers(3)]
    return (content[:start] + piece + content[start + length :]).ljust(16, b"\0")


_MUTATIONS = (_flip, _tell, _run, _cut, _splice)


@dataclass
class Outcome:
    """What a campaign found.

    Attributes:
        counts: How many files became what: an error class, `ok`, `crash` or `hang`.
        culprits: The numbers of those that crashed or hung, and of bugs, with what became of them.
        slowest_s: The longest that a file took, and its number.
        before_mb: Memory of a child after its first 50 files.
        after_mb: At its end.
    """

    counts: Counter[str] = field(default_factory=Counter)
    culprits: dict[int, str] = field(default_factory=dict)
    slowest_s: tuple[float, int] = (0.0, -1)
    before_mb: int = 0
    after_mb: int = 0


def campaign(first: int, stop: int) -> Outcome:
    """Decode files first..stop-1 in a child; where it dies, another one goes on behind the file it died of."""
    found = Outcome()
    while first < stop:
        here = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, __file__, str(first), str(stop)], env=here, capture_output=True, text=True, check=False
        )
        lines = [line.split() for line in ran.stdout.splitlines()]
        begun = [int(line[1]) for line in lines if line[0] == "begin"]
        for _, number, became, seconds, mb in (line for line in lines if line[0] == "end"):
            found.counts[became] += 1
            found.slowest_s = max(found.slowest_s, (float(seconds), int(number)))
            found.after_mb = int(mb)
            if int(number) == first + 50:
                found.before_mb = int(mb)
            if became.startswith("bug"):
                found.culprits[int(number)] = became
        assert begun, ran.stderr
        first = begun[-1] + 1
        if ran.returncode:
            became = "hang" if "Timeout" in ran.stderr else "crash"
            found.counts[became] += 1
            found.culprits[begun[-1]] = f"{became}, exit code {ran.returncode}: {ran.stderr[-500:]}"
    return found


def _became(content: bytes) -> str:
    from sep_batch.pipeline import errors
    from sep_batch.pipeline.audio import decoding

    samples = 0
    try:
        pieces, found = decoding.decode(io.BytesIO(content), rate_hz=44_100)
        for piece in pieces:
            samples += piece.shape[1]
            if not np.isfinite(piece).all() or np.abs(piece).max() > decoding.LOUDEST:
                return "bug:nonfinite"
    except errors.TrackError as error:
        return error.error_class
    except Exception as error:  # noqa: BLE001 (what the campaign looks for)
        return f"bug:{type(error).__name__}"
    return "ok" if samples == found.samples > 0 else "bug:samples"


def _resident_mb() -> int:
    return math.ceil(int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024)


def main(first: int, stop: int) -> None:
    """Decode files and say what became of each."""
    for number in range(first, stop):
        content = mutated(number)
        _say("begin", number)
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        begun = time.monotonic()
        became = _became(content)
        faulthandler.cancel_dump_traceback_later()
        _say("end", number, became, f"{time.monotonic() - begun:.3f}", _resident_mb())


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
