"""What it costs that stems are analysed: the same work with and without, turn by turn.

python tests/benchmarks/analysis_cost.py [--seconds 60] [--repeats 20] [--runs 0]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from sep_batch.jobs.demo import synthesis
from sep_batch.jobs.run.run import run_job
from sep_batch.model import weights
from sep_batch.pipeline import rows
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.analyze import Analyze
from sep_batch.pipeline.stages.context import RunContext
from sep_batch.pipeline.stages.separate import Separate

MODEL = "spleeter:2stems"
RATE_HZ = 44_100
SONGS = 4  # in a whole run


class Turn(Protocol):
    """Work that is done with analysis or without."""

    def __call__(self, *, analysis: bool) -> None:
        """Do it."""


def write_song(path: Path, seconds: float) -> None:
    """Write a synthesised song as WAV."""
    stems = synthesis.song(1, seconds)
    path.write_bytes(encode(stems["vocals"] + stems["accompaniment"], codecs.CODECS["wav"]["16"], rate_hz=RATE_HZ))


def separation(song: Path) -> Turn:
    """Return what Separate does with a song's spectrum, on one thread of the CPU."""
    folder, out = weights.obtain(MODEL), str(song.parent)
    spec, _, sha256 = weights.load(folder, preset=MODEL)
    settings = Settings(weights_sha256=sha256, spec=spec, stems=spec.stems)
    work = RunContext(settings, out=out, run="000001-aaaa", parts=out, scratch=out)
    track = pa.Table.from_pylist([{"id": "x", "uri": str(song), "attempts": 0}], schema=rows.TRACK)
    parts, separate = pa.concat_tables(Analyze(work)(track)), Separate(work, str(folder), device="cpu")

    def turn(*, analysis: bool) -> None:
        separate.work = dataclasses.replace(work, analysis=analysis)
        for row in separate(parts):
            assert rows.value(row, "status") is None, rows.value(row, "error")

    return turn


def whole_run(song: Path) -> Turn:
    """Return a run of some songs, each time into an OUT of its own."""
    folder = song.parent / "songs"
    folder.mkdir()
    for number in range(SONGS):
        (folder / f"{number}.wav").hardlink_to(song)

    def turn(*, analysis: bool) -> None:
        with tempfile.TemporaryDirectory() as out:
            summary = run_job(str(folder), out, model=MODEL, gpus="0", analysis=analysis)
        assert summary.ok == SONGS, summary

    return turn


def compare(name: str, turn: Turn, repeats: int, clock: Callable[[], float]) -> None:
    """Print what analysis adds: the median over pairs of turns, every other one begun by the other, and the quartiles."""
    turn(analysis=True)  # not counted
    ratios, seconds = [], []
    for number in range(repeats):
        took = {}
        for analysis in (number % 2 == 0, number % 2 == 1):
            begun = clock()
            turn(analysis=analysis)
            took[analysis] = clock() - begun
        ratios.append(100 * (took[True] / took[False] - 1))
        seconds.append(took[False])
    low, middle, high = statistics.quantiles(ratios, n=4)
    without = statistics.median(seconds)
    sys.stdout.write(
        f"{name}: {without:.2f} s without; analysis adds {middle:+.2f} % (quartiles {low:+.2f} to {high:+.2f}, {repeats} pairs)\n"
    )


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="of the song")
    parser.add_argument("--repeats", type=int, default=20, help="pairs of Separate alone, in CPU seconds")
    parser.add_argument("--runs", type=int, default=0, help="pairs of whole runs, in seconds")
    given = parser.parse_args()
    sys.stdout.write(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.seconds:.0f} s of music\n")
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        write_song(song, given.seconds)
        if given.repeats:
            compare("Separate alone, CPU seconds", separation(song), given.repeats, time.process_time)
        if given.runs:
            compare(f"run of {SONGS} songs, seconds", whole_run(song), given.runs, time.monotonic)


if __name__ == "__main__":
    main()
