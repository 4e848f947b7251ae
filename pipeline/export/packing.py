"""Waves as an export writes them: one channel or two, rounded for the codec, encoded; and their active shares."""

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
    """Return the share of an excerpt in which a stem is active, as measured in the samples that are written."""
    return activity.of_wave(codecs.wave_of(frames).T, rate_hz).ratio


def encoded(blocks: Iterable[np.ndarray], settings: ExportSettings, rate_hz: int, samples: int = 0) -> bytes:
    """Encode results of `frames_of`; `samples` is their total, if it may be more than a plain WAV holds."""
    out, channels = io.BytesIO(), 1 if settings.mono else 2
    options: dict[str, Any] = {"channels": channels, "rate_hz": rate_hz, "bitrate": settings.bitrate, "samples": samples}
    with open_encoder(out, settings.packing, **options) as encoder:
        for block in blocks:
            for start in range(0, len(block), codecs.BLOCK):
                encoder.add(block[start : start + codecs.BLOCK])
    return out.getvalue()


def refuse_unwritable(settings: ExportSettings) -> None:
    """Refuse a sample rate that the codec does not support.

    Raises:
        UsageError: It is not supported; the message has the rates that are.
    """
    rate_hz, rates_hz = settings.sample_rate_hz, settings.packing.rates_hz
    if rate_hz is not None and rate_hz not in rates_hz:
        shown = f"{rates_hz[0]} to {rates_hz[-1]}" if isinstance(rates_hz, range) else ", ".join(map(str, rates_hz))
        raise errors.UsageError(f"--sample-rate {rate_hz}: {settings.codec} takes {shown} Hz")
