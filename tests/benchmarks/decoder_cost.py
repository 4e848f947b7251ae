"""CPU time that decoding in a process of its own costs: files decoded here and there in turn.

python tests/benchmarks/decoder_cost.py FILE... [--rounds 4]
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from pathlib import Path

from sep_batch.pipeline import audio
from sep_batch.pipeline.audio import decoder, decoding

RATE_HZ = 44_100


def cpu_s():
    """Return the CPU time of this process and of its idle decoders."""
    return time.process_time() + sum(child._cpu_s() for child in decoder._IDLE)


def decoding_s(decode, files):
    """Return the CPU time that decoding all files takes, and the seconds of audio that came out."""
    begun, samples = cpu_s(), 0
    for content in files:
        samples += sum(piece.shape[1] for piece in decode(io.BytesIO(content), rate_hz=RATE_HZ)[0])
    return cpu_s() - begun, samples / RATE_HZ


def main():
    """Print each round, and the median of the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    begun = time.perf_counter()
    audio.start()
    sys.stdout.write(f"start of the process: {time.perf_counter() - begun:.2f} s\n")
    files, costs = [path.read_bytes() for path in given.files], []
    for _ in range(given.rounds):
        here_s, seconds = decoding_s(decoding.decode, files)
        there_s, _ = decoding_s(audio.decode, files)
        costs.append(there_s - here_s)
        sys.stdout.write(f"{seconds:.0f} s of audio: {here_s:.2f} CPU s here, {there_s:.2f} in the process\n")
    sys.stdout.write(
        f"median cost: {statistics.median(costs):.2f} CPU s, {1000 * statistics.median(costs) / seconds:.2f} ms a second\n"
    )


if __name__ == "__main__":
    main()
