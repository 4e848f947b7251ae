"""CPU seconds of each stage for a second of audio, on one thread; with --other, in pairs with another checkout.

python tests/benchmarks/stage_cost.py [SONG ...] [--model FOLDER] [--stft cpu] [--turns 2] [--other CHECKOUT]

Without songs it synthesises eight of 60 s; of longer ones it takes the first 230 s. A ratio is this checkout's time by the
other's: the median over turns and songs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

SONGS, SECONDS, RATE_HZ = 8, 60.0, 44_100
LONGEST_S = 230.0  # of a song, from its start: more would be two parts
STAGES = ("analyze", "u-nets", "masks and inverse", "write")
PACKAGES = ("model", "pipeline", "jobs")


def songs_in(folder: Path) -> list[str]:
    """Synthesise songs, as 16-bit FLAC."""
    from sep_batch.jobs.demo import synthesis
    from sep_batch.pipeline.audio import codecs
    from sep_batch.pipeline.audio.encoding import encode

    paths = [folder / f"song {number}.flac" for number in range(SONGS)]
    for seed, path in enumerate(paths):
        wave = sum(synthesis.song(seed, SECONDS).values())
        path.write_bytes(encode(wave, codecs.CODECS["flac"]["16"], rate_hz=RATE_HZ))
    return [str(path) for path in paths]


def cpu_s() -> float:
    """Return the CPU seconds of this process and its children, the decoder too."""
    import psutil

    living = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + sum(times.user + times.system for times in living) + ended.ru_utime + ended.ru_stime


def measured(songs: list[str], model: str, stft: str, out: str) -> list[dict[str, Any]]:
    """Return, for each song, its seconds of audio, the CPU seconds of each stage, and its row of the index."""
    import pyarrow as pa

    from sep_batch.model import weights
    from sep_batch.pipeline import rows
    from sep_batch.pipeline.settings import Settings
    from sep_batch.pipeline.stages.analyze import Analyze
    from sep_batch.pipeline.stages.context import RunContext
    from sep_batch.pipeline.stages.separate import Separate
    from sep_batch.pipeline.stages.write import Write

    folder = weights.obtain(model)
    spec, _, sha256 = weights.load(folder, preset=model)
    settings = Settings(weights_sha256=sha256, spec=spec, stems=spec.stems)
    work = RunContext(settings, out=out, run="000001-aaaa", parts=out, scratch=out, stft=stft)
    analyze, separate, write = Analyze(work), Separate(work, str(folder), device="cpu"), Write(work)
    networks, seconds = separate.separator.estimates, [0.0]

    def timed(magnitudes: Any) -> Any:
        begun = time.process_time()
        estimates = networks(magnitudes)
        seconds[0] += time.process_time() - begun
        return estimates

    separate.separator.estimates = timed  # type: ignore[method-assign]
    results = []
    for number, song in enumerate([songs[0], *songs]):  # the first turn warms up
        seconds[0] = 0.0
        track = pa.Table.from_pylist(
            [{"id": str(number), "uri": song, "attempts": 0, "duration_s": LONGEST_S}], schema=rows.TRACK
        )
        times = [cpu_s()]
        parts = pa.concat_tables(analyze(track))
        times.append(cpu_s())
        stems = pa.concat_tables(separate(parts))
        times.append(cpu_s())
        (row,) = pa.concat_tables(write(stems)).to_pylist()
        times.append(cpu_s())
        if row["status"] != "ok":
            raise SystemExit(f"{song}: {row['error']}")
        own = times[1] - times[0], seconds[0], times[2] - times[1] - seconds[0], times[3] - times[2]
        results.append({"audio_s": row["audio_s"], "cpu_s": dict(zip(STAGES, own, strict=True)), "stems": row["stems"]})
    return results[1:]


def turn(checkout: Path, arguments: list[str]) -> list[dict[str, Any]]:
    """Measure with the modules of a checkout, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "sep_batch"
        package.mkdir()
        for name in PACKAGES:
            (package / name).symlink_to(checkout / name)
        command = [sys.executable, __file__, "--json", *arguments]
        printed = subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": folder}, stdout=subprocess.PIPE).stdout
    results: list[dict[str, Any]] = json.loads(printed)
    return results


def greatest_differences(own: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, float]:
    """Return the greatest difference of each number that the index has for stems."""
    greatest: dict[str, float] = defaultdict(float)
    for left, right in zip(own, other, strict=True):
        for stem, reference in zip(left["stems"], right["stems"], strict=True):
            greatest["other bytes"] += stem["sha256"] != reference["sha256"]
            for name, number in stem.items():
                if isinstance(number, float) and isinstance(reference.get(name), float):
                    greatest[name] = max(greatest[name], abs(number - reference[name]))
    return dict(greatest)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="*", metavar="SONG")
    parser.add_argument("--model", default="spleeter:2stems", help="name, or folder of a converted model")
    parser.add_argument("--stft", choices=("cpu", "gpu"), default="cpu", help="stage of the STFT: Analyze, or Separate")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--other", type=Path, help="folder of another checkout")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        songs = given.songs or songs_in(Path(folder))
        if given.json:
            sys.stdout.write(json.dumps(measured(songs, given.model, given.stft, folder)))
            return
        arguments = [*songs, "--model", given.model, "--stft", given.stft]
        checkouts = [Path(__file__).parents[2], *([given.other.resolve()] if given.other else [])]
        pairs = []
        for number in range(given.turns):  # every other one begun by the other
            order = checkouts[:: (-1) ** number]
            pairs.append([turn(checkout, arguments) for checkout in order][:: (-1) ** number])
    for stage in (*STAGES, "all", "all but the u-nets, by the u-nets"):
        columns = [[_ms(result, stage) for pair in pairs for result in pair[number]] for number in range(len(checkouts))]
        unit = "ms" if stage in (*STAGES, "all") else ""
        text = ", other ".join(f"{statistics.median(column):.2f} {unit}".strip() for column in columns)
        if given.other:
            text += f"; ratio {statistics.median(own / other for own, other in zip(*columns, strict=True)):.2f}"
        sys.stdout.write(f"{stage}: {text}\n")
    if given.other:
        sys.stdout.write(f"greatest differences of the index: {greatest_differences(*pairs[0])}\n")


def _ms(result: dict[str, Any], stage: str) -> float:
    """Return the milliseconds of a stage for a second of audio, or the ratio that the last line states."""
    seconds = result["cpu_s"]
    own = seconds.get(stage, sum(seconds.values()))
    if stage not in (*STAGES, "all"):
        return float((own - seconds["u-nets"]) / seconds["u-nets"])
    return float(1e3 * own / result["audio_s"])


if __name__ == "__main__":
    main()
