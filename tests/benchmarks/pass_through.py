"""The whole pipeline with a pass-through in place of the U-Nets: what everything but the network costs.

python tests/benchmarks/pass_through.py clips CLIPS --count 2000     write a catalog of clips of 5 s
python tests/benchmarks/pass_through.py long FILE --hours 10         write one long file, .flac or .wav
python tests/benchmarks/pass_through.py run SOURCE OUT [--format wav --bit-depth float] [--stft gpu] [--unets]
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from sep_batch.jobs.run.run import run_job
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import Encoder
from sep_batch.pipeline.flow import local_flow, ray_flow
from sep_batch.pipeline.stages.separate import Separate

RATE_HZ = 44_100
EVERY_S = 1.0


class PassThrough(Separate):
    """`Separate` whose networks give back what they are given: every mask is one over the number of stems."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        stems = len(self.separator.spec.stems)
        self.separator.estimates = lambda magnitudes: torch.stack([magnitudes] * stems)


class Watch:
    """Adds up, each second, what this process and all below it take: peak PSS in bytes, CPU seconds."""

    def __init__(self) -> None:
        self.peak_bytes, self._cpu_s = 0, {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._ended.set()
        self._thread.join()

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all of them, those that have ended included."""
        return sum(self._cpu_s.values())

    def _look(self):
        ours = psutil.Process()
        while not self._ended.wait(EVERY_S):
            pss = 0
            for one in [ours, *ours.children(recursive=True)]:
                try:
                    pss += one.memory_full_info().pss
                    times = one.cpu_times()
                    self._cpu_s[one.pid] = times.user + times.system
                except psutil.Error:
                    continue  # it has ended since
            self.peak_bytes = max(self.peak_bytes, pss)


def music(seconds: float, seed: int = 0):
    """Yield blocks of something that compresses as music does: slow tones and soft noise, (2, samples) float32."""
    drawn, place, total = np.random.default_rng(seed), 0, round(seconds * RATE_HZ)
    while place < total:
        time_s = (place + np.arange(min(codecs.BLOCK, total - place))) / RATE_HZ
        notes = sum(np.sin(2 * np.pi * hz * (1 + seed / 97) * time_s) / hz**0.5 for hz in (110, 220.5, 331, 554, 881))
        yield (notes * 0.8 + drawn.standard_normal((2, len(time_s))) * 0.02).astype(np.float32)
        place += len(time_s)


def write(path: Path, seconds: float, seed: int = 0) -> None:
    """Write one file of that music."""
    codec, samples = codecs.CODECS[path.suffix[1:]]["16"], round(seconds * RATE_HZ)
    with Encoder(str(path), codec, channels=2, rate_hz=RATE_HZ, samples=samples) as encoder:
        for block in music(seconds, seed):
            encoder.add(codecs.raw(block, codec))


def clips(folder: Path, count: int) -> None:
    """Write a catalog of clips of 5 s: few different ones, each many times under its own name."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(10):
        write(folder / f"{seed:05d}.flac", 5, seed)
    for number in range(10, count):
        (folder / f"{number:05d}.flac").hardlink_to(folder / f"{number % 10:05d}.flac")


def run(source: str, out: str, *, unets: bool, **options) -> dict[str, object]:
    """Run a catalog, and return what it took."""
    if not unets:
        local_flow.Separate = ray_flow.Separate = PassThrough
    begun = time.monotonic()
    with Watch() as watch:
        summary = run_job(source, out, gpus="0", **options)
    return {
        "tracks": summary.ok,
        "failed": dict(summary.failed),
        "audio_s": round(summary.audio_s, 1),
        "wall_s": round(time.monotonic() - begun, 1),
        "flow_s": round(summary.seconds, 1),
        "ms_per_track": round(summary.seconds / max(summary.tried, 1) * 1000, 1),
        "cpu_s": round(watch.cpu_s, 1),
        "peak_pss_gb": round(watch.peak_bytes / 1e9, 2),
    }


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    todo = parser.add_subparsers(dest="todo", required=True)
    of_clips, of_long, of_run = (todo.add_parser(name) for name in ("clips", "long", "run"))
    of_clips.add_argument("folder", type=Path)
    of_clips.add_argument("--count", type=int, default=2000)
    of_long.add_argument("file", type=Path)
    of_long.add_argument("--hours", type=float, default=1)
    of_run.add_argument("source")
    of_run.add_argument("out")
    of_run.add_argument("--format", default="flac")
    of_run.add_argument("--bit-depth", default="16")
    of_run.add_argument("--stft", default="cpu")
    of_run.add_argument("--unets", action="store_true", help="Run the U-Nets too.")
    given = vars(parser.parse_args())
    match given.pop("todo"):
        case "clips":
            clips(**given)
        case "long":
            write(given["file"], given["hours"] * 3600)
        case "run":
            sys.stdout.write(json.dumps(run(**given)) + "\n")


if __name__ == "__main__":
    main()
