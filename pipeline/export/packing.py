"""Waves as an export writes them: one channel or two, rounded as the codec takes them, encoded; and what is active in them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import activity, codecs
from sep_batch.pipeline.audio.encoding import open_encoder
from sep_batch.pipeline.export.settings import ExportSettings


def frames_of(wave: np.ndarray, settings: ExportSettings) -> np.ndarray:
    """Return a wave as its codec takes it: (samples, channels)."""
    return codecs.raw(wave.mean(axis=0, keepdims=True) if settings.mono else wave, settings.packing)


def active_in(frames: np.ndarray, rate_hz: int) -> float:
    """Return the share of an excerpt that a stem is active in, as whoever reads it will find."""
    return activity.of_wave(codecs.wave_of(frames).T, rate_hz).ratio


def encoded(blocks: Iterable[np.ndarray], settings: ExportSettings, rate_hz: int, samples: int = 0) -> bytes:
    """Encode what `frames_of` gives; `samples` are all of them, where they may be more than a plain WAV holds."""
    out, channels = io.BytesIO(), 1 if settings.mono else 2
    how: dict[str, Any] = {"channels": channels, "rate_hz": rate_hz, "bitrate": settings.bitrate, "samples": samples}
    with open_encoder(out, settings.packing, **how) as encoder:
        for block in blocks:
            for start in range(0, len(block), codecs.BLOCK):
                encoder.add(block[start : start + codecs.BLOCK])
    return out.getvalue()


def refuse_unwritable(settings: ExportSettings) -> None:
    """Refuse a codec that does not take the rate asked for.

    Raises:
        UsageError: With those it takes.
    """
    asked, takes = settings.sample_rate_hz, settings.packing.rates_hz
    if asked is not None and asked not in takes:
        known = f"{takes[0]} to {takes[-1]}" if isinstance(takes, range) else ", ".join(map(str, takes))
        raise errors.UsageError(f"--sample-rate {asked}: {settings.codec} takes {known} Hz")
