"""A part's stems as they are written: measured, rounded to what their codec takes, encoded.

Torch is imported where it is needed: Write does without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from sep_batch.pipeline import audio
from sep_batch.pipeline.analysis import Sums
from sep_batch.pipeline.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class Stems:
    """Takes the waves of one part's stems piece by piece, on the device that separated them.

    Attributes:
        frames: (stems, samples, channels) of the codec's type, complete after the last piece.
        sums: What was asked to take each piece too.
    """

    def __init__(self, settings: Settings, samples: int, sums: Sums | None = None) -> None:
        shape = (len(settings.stems), samples, settings.spec.channels)
        self.frames = np.empty(shape, settings.codec.dtype)
        self._settings, self._place, self.sums = settings, 0, sums
        self._peaks, self._powers, self._clipped = (np.zeros(len(settings.stems)) for _ in range(3))

    @property
    def is_complete(self) -> bool:
        """Tell whether all samples have come."""
        return bool(self._place == self.frames.shape[1])

    def add(self, wave: Tensor) -> None:
        """Measure, round and keep the next piece: (stems, channels, samples) float32."""
        import torch

        if not wave.shape[-1]:
            return
        flat = wave.flatten(1)  # two passes of these are faster than one of aminmax
        self._peaks = np.maximum(self._peaks, torch.maximum(flat.amax(dim=1), -flat.amin(dim=1)).cpu().numpy())
        self._powers += torch.linalg.vector_norm(wave, dim=(1, 2)).cpu().numpy().astype(np.float64) ** 2
        if self._peaks.max() >= 1:
            self._clipped += ((wave >= 1) | (wave < -1)).sum(dim=(1, 2)).cpu().numpy()
        if self.sums:
            self.sums.add(wave)
        begin, self._place = self._place, self._place + wave.shape[-1]
        torch.from_numpy(self.frames[:, begin : self._place]).copy_(self._rounded(wave).transpose(1, 2))

    def _rounded(self, wave: Tensor) -> Tensor:
        """Round as `audio.raw` does."""
        import torch

        codec = self._settings.codec
        if codec.dtype.kind == "f":
            return wave
        full = float(1 << (codec.bits - 1))
        whole = (wave * full).round_().clamp_(-full, full - 1)
        return whole.to(torch.int16) if codec.bits == 16 else whole.to(torch.int32) << (32 - codec.bits)

    def measured(self) -> list[dict[str, Any]]:
        """Return what is known of each stem before it is written: stem, frames, peak_dbfs, rms_dbfs, clipped_samples."""
        frames, values = self.frames.shape[1], self.frames.shape[1] * self.frames.shape[2]
        return [
            {
                "stem": stem,
                "frames": frames,
                "peak_dbfs": _db(peak**2),
                "rms_dbfs": _db(power / values),
                "clipped_samples": int(clipped),
            }
            for stem, peak, power, clipped in zip(self._settings.stems, self._peaks, self._powers, self._clipped, strict=True)
        ]


def _db(power: float) -> float | None:
    """Return a power in dB of full scale; None for silence."""
    return 10 * math.log10(power) if power > 0 else None


def ratio_db(part: float, whole: float) -> float | None:
    """Return an energy as a share of another, in dB; None where either is nothing."""
    return _db(part / whole) if whole > 0 else None


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `Stems.measured` would say of a stem whose parts it said these things of."""
    frames = sum(part["frames"] for part in parts)
    powers = [part["frames"] * 10 ** (part["rms_dbfs"] / 10) for part in parts if part["rms_dbfs"] is not None]
    return {
        "stem": parts[0]["stem"],
        "frames": frames,
        "peak_dbfs": max((part["peak_dbfs"] for part in parts if part["peak_dbfs"] is not None), default=None),
        "rms_dbfs": _db(sum(powers) / frames),
        "clipped_samples": sum(part["clipped_samples"] for part in parts),
    }


def write(out: IO[bytes] | str, blocks: Iterable[np.ndarray], settings: Settings, *, samples: int) -> float | None:
    """Encode one stem.

    Args:
        out: A seekable file, or a path.
        blocks: (samples, channels) each, as the codec takes them.
        settings: How.
        samples: Of all blocks.

    Returns:
        Its loudness in LUFS; None below 0.4 s or in silence.
    """
    rate_hz, channels = settings.spec.sample_rate_hz, settings.spec.channels
    loudness = audio.Loudness(rate_hz)
    encoder = audio.Encoder(out, settings.codec, channels=channels, rate_hz=rate_hz, bitrate=settings.bitrate, samples=samples)
    with encoder:
        for block in blocks:
            encoder.add(block)
            loudness.add(audio.wave_of(block))
    return loudness.lufs()
