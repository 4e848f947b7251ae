"""Waves as an export writes them: one channel or two, rounded as the codec takes them, encoded; and what is active in them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from sep_batch.pipeline import activity, audio, failures
from sep_batch.pipeline.export_settings import ExportSettings


def frames_of(wave: np.ndarray, settings: ExportSettings) -> np.ndarray:
    """Return a wave as its codec takes it: (samples, channels)."""
    return audio.raw(wave.mean(axis=0, keepdims=True) if settings.mono else wave, settings.packing)


def active_in(frames: np.ndarray, rate_hz: int) -> float:
    """Return the share of an excerpt that a stem is active in, as whoever reads it will find."""
    return activity.of_wave(audio.wave_of(frames).T, rate_hz).ratio


def encoded(blocks: Iterable[np.ndarray], settings: ExportSettings, rate_hz: int, samples: int = 0) -> bytes:
    """Encode what `frames_of` gives; `samples` are all of them, where they may be more than a plain WAV holds."""
    out, channels = io.BytesIO(), 1 if settings.mono else 2
    how: dict[str, Any] = {"channels": channels, "rate_hz": rate_hz, "bitrate": settings.bitrate, "samples": samples}
    with audio.Encoder(out, settings.packing, **how) as encoder:
        for block in blocks:
            for start in range(0, len(block), audio.BLOCK):
                encoder.add(block[start : start + audio.BLOCK])
    return out.getvalue()


def refuse_unwritable(settings: ExportSettings, rate_hz: int | None) -> None:
    """Refuse a codec that does not take the rate or the channels asked for.

    Args:
        settings: Of the export.
        rate_hz: Of the stems, where that is known.

    Raises:
        UsageError: With the codec's own words.
    """
    rate_hz = settings.sample_rate_hz or rate_hz
    if rate_hz is None:
        return
    try:
        encoded([frames_of(np.zeros((2, rate_hz // 10), np.float32), settings)], settings, rate_hz)
    except Exception as error:  # whatever a codec raises
        words = str(error).splitlines()[0]
        raise failures.UsageError(f"--codec {settings.codec}: does not take {rate_hz} Hz ({words})") from error
