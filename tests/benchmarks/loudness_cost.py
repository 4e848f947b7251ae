"""CPU seconds of the loudness of two stems: K-weighted energies, as Separate computes them, beside FFmpeg's meter, in pairs.

python tests/benchmarks/loudness_cost.py [--pairs 15]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import ebur128

from sep_batch.model.spec import PRESETS
from sep_batch.pipeline.stages.k_weighting import KWeighted
from sep_batch.pipeline.stages.process import prepare_torch

SPEC = PRESETS["spleeter:2stems"]
STEMS = 2


def cpu_s(call: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def main() -> None:
    """Print the medians, per second of audio, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    prepare_torch()
    rate_hz, samples = SPEC.sample_rate_hz, SPEC.patch_samples
    wave = torch.rand((STEMS, 2, samples), generator=torch.Generator().manual_seed(0)) - 0.5
    ours = KWeighted(rate_hz, stems=STEMS, begin=0, samples=samples * (pairs + 1))
    ours.add(wave)
    found = []
    for _ in range(pairs):
        meter_s = cpu_s(lambda: [ebur128.lufs(stem.numpy(), rate_hz) for stem in wave])
        found.append((cpu_s(lambda: ours.add(wave)), meter_s))
    ours_ms, meter_ms = (statistics.median(column) * 1e3 * rate_hz / samples for column in zip(*found, strict=True))
    ratio = statistics.median(own / other for own, other in found)
    sys.stdout.write(f"{STEMS} stems, a second of audio: {ours_ms:.2f} ms, FFmpeg's meter {meter_ms:.2f} ms; ratio {ratio:.2f}\n")


if __name__ == "__main__":
    main()
