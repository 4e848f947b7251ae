"""BSSEval v4, by the package museval: the metrics of the SiSEC campaigns, whole tracks in memory.

museval itself imports musdb, which needs the programs ffmpeg and ffprobe. Its metrics do not, so their file is loaded alone.

Source: Vincent et al., Performance measurement in blind audio source separation, IEEE TASLP 2006; Stoter et al., The 2018 Signal
Separation Evaluation Campaign, LVA/ICA 2018.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sep_batch.pipeline import errors, extras
from sep_batch.pipeline.scoring.references import ACCOMPANIMENT, VOCALS

NAMES = ("sdr", "isr", "sir", "sar")
EXTRA = "bsseval"
WINDOW_S = 1  # museval's window and hop
BYTES_A_VALUE = 150  # memory of a process at its peak, per sample, channel and stem; measured: 81 to 120


@cache
def load() -> Any:
    """Return museval's module of metrics.

    Raises:
        NotRunnableError: museval is not installed.
    """
    package = importlib.util.find_spec("museval")
    if package is None or not package.submodule_search_locations:
        raise errors.NotRunnableError(f"--metrics bsseval: needs the package museval; {extras.to_install(EXTRA)}")
    file = Path(package.submodule_search_locations[0]) / "metrics.py"
    spec = importlib.util.spec_from_file_location("sep_batch_museval_metrics", file)
    if spec is None or spec.loader is None:
        raise errors.NotRunnableError(f"--metrics bsseval: {file} cannot be loaded; {extras.to_install(EXTRA)}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores(waves: Mapping[str, tuple[np.ndarray, ...]], *, rate_hz: int) -> dict[str, dict[str, float | None]]:
    """Return SDR, ISR, SIR and SAR of each stem in dB, the median over windows of 1 s.

    A scenario takes two stems or more, none of them silent, in reference and estimate; other stems are not in the result.

    Args:
        waves: Reference and estimate of each stem, (2, samples) each, by name.
        rate_hz: Their sample rate.
    """
    results = {}
    for group, names in _scenarios([stem for stem, both in waves.items() if not any(map(_is_silent, both))]):
        references, estimates = (np.stack([waves[stem][side].T for stem in group]) for side in (0, 1))
        window = WINDOW_S * rate_hz
        values = load().bss_eval(references, estimates, window=window, hop=window, compute_permutation=False)[: len(NAMES)]
        for number, stem in enumerate(group):
            if stem in names:
                results[stem] = {name: _median(value[number]) for name, value in zip(NAMES, values, strict=True)}
    return results


def _is_silent(wave: np.ndarray) -> bool:
    """Return whether museval refuses a wave as silent: its channels add up to nothing."""
    return not wave.sum(axis=0).any()


def _scenarios(stems: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the stems that are separated from each other, and those of them to score, as museval chooses them.

    Vocals and accompaniment are one scenario, all stems but accompaniment another.
    """
    has_both = {VOCALS, ACCOMPANIMENT} <= set(stems)
    if has_both:
        yield [VOCALS, ACCOMPANIMENT], [VOCALS, ACCOMPANIMENT]
    others = [stem for stem in stems if stem != ACCOMPANIMENT or not has_both]
    if len(others) > 1:
        yield others, [stem for stem in others if stem != VOCALS or not has_both]


def _median(windows: np.ndarray) -> float | None:
    """Return the median over windows; a window in which a source is silent is NaN, and does not count."""
    is_number = ~np.isnan(windows)
    return float(np.median(windows[is_number])) if is_number.any() else None
