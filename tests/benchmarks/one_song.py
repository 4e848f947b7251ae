"""One song from a shell, against the same separation in a fresh Python: pairs, and the median of their ratios.

python tests/benchmarks/one_song.py [--seconds 30] [--pairs 5] [--engine local]

The baseline imports torch, loads the model and separates the wave, and writes nothing. `run` adds the command line, the manifest,
decoding, encoding, journal, lease and index.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sep_batch.jobs.demo import synthesis
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode

RATE_HZ = 44_100
BASELINE = """
import sys
import soundfile, torch
from sep_batch.model.separator import Separator
wave, _ = soundfile.read(sys.argv[1], dtype="float32")
Separator.load(threads=int(sys.argv[2])).separate(torch.from_numpy(wave.T.copy()))
"""


def write_song(path: Path, seconds: float) -> None:
    """Write a synthesised song as 16-bit WAV."""
    stems = synthesis.song(1, seconds)
    wave = sum(np.asarray(stem, np.float32) for stem in stems.values())
    path.write_bytes(encode(wave, codecs.CODECS["wav"]["16"], rate_hz=RATE_HZ))


def timed(command: list[str]) -> float:
    """Return the seconds that a command takes."""
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - begun


def main() -> None:
    """Measure the pairs, and print their seconds and ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--threads", type=int, default=1, help="Threads of the baseline's Separator.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        song, out = Path(folder) / "song.wav", Path(folder) / "out"
        write_song(song, options.seconds)
        run = [sys.executable, "-m", "sep_batch.jobs", "run", str(song), "--out", str(out), "--engine", options.engine]
        pairs = []
        for number in range(options.pairs + 1):  # the first pair warms the disk
            shutil.rmtree(out, ignore_errors=True)
            alone_s, run_s = timed([sys.executable, "-c", BASELINE, str(song), str(options.threads)]), timed(run)
            pairs += [(alone_s, run_s)] if number else []
    sys.stdout.write(
        json.dumps(
            {
                "alone_s": [round(alone_s, 2) for alone_s, _ in pairs],
                "run_s": [round(run_s, 2) for _, run_s in pairs],
                "ratio": round(statistics.median(run_s / alone_s for alone_s, run_s in pairs), 3),
            }
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
