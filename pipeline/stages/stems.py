"""Stems of a part: measured, rounded to the format of their codec, encoded.

Torch is imported inside functions, since Write does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sep_batch.pipeline.audio import codecs, loudness
from sep_batch.pipeline.audio.encoding import open_encoder
from sep_batch.pipeline.audio.resample import Resampler
from sep_batch.pipeline.audio.tags import NO_TAGS, Tags
from sep_batch.pipeline.rows import value
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import windows
from sep_batch.pipeline.stages.analysis import Sums

if TYPE_CHECKING:
    from torch import Tensor


NULL_DB = -200.0  # below what float32 can tell from silence


class Stems:
    """Collects the waves of one part's stems piece by piece, on the device that separated them.

    Attributes:
        frames: (stems, samples, channels) in the sample format `settings.form`, complete after the last piece.
        position: Number of samples per channel that were added.
        sums: Sums of the analysis, to which each piece is added too.
        k_weighted: Energies for the loudness, to which each piece is added too.
        null: Energies of the null test: of the mix minus the stems, and of the mix, in the bins that stems have.
    """

    def __init__(self, settings: Settings, samples: int, sums: Sums | None = None, *, begin: int = 0) -> None:
        """Begin a part.

        Args:
            settings: Settings of the run.
            samples: Samples per channel of the part.
            sums: Sums of the analysis.
            begin: Samples of the track before the part.
        """
        from sep_batch.pipeline.stages.k_weighting import KWeighted

        rate_hz, count = settings.spec.sample_rate_hz, len(settings.written_stems)
        self.k_weighted = KWeighted(rate_hz, stems=count, begin=begin, samples=samples)
        shape = (count, samples, settings.spec.channels)
        self.frames = np.empty(shape, settings.form.dtype)
        self._settings, self.position, self.sums = settings, 0, sums
        self._peaks, self._powers, self._clipped = (np.zeros(count) for _ in range(3))
        self.null = np.zeros(2)

    @property
    def is_complete(self) -> bool:
        """True once all samples were added."""
        return bool(self.position == self.frames.shape[1])

    @property
    def is_finite(self) -> bool:
        """True if all samples so far are numbers."""
        return bool(np.isfinite(self._peaks).all())

    def add(self, wave: Tensor, mix: Tensor | None = None, band: Tensor | None = None) -> None:
        """Measure, round and keep the next piece.

        Args:
            wave: (stems, channels, samples) float32, of the model's stems.
            mix: The piece before it was separated, (channels, samples) float32; needed where a residual or the mix is written.
            band: The mix in the bins that stems have, (channels, samples) float32; only where all stems are here.
        """
        import torch

        if not wave.shape[-1]:
            return
        if band is not None:
            self.null += _energies(torch.stack([band - wave.sum(dim=0), band]))
        begin, self.position = self.position, self.position + wave.shape[-1]
        whole = self._rounded(wave)
        if mix is not None:
            wave, whole = self._with_mix(wave, whole, mix)
        flat = wave.flatten(1)  # amax and amin are faster than one aminmax
        self._peaks = np.maximum(self._peaks, torch.maximum(flat.amax(dim=1), -flat.amin(dim=1)).cpu().numpy())
        self._powers += _energies(wave)
        is_loud = self._peaks.max() >= 1
        if is_loud:
            self._clipped += ((wave >= 1) | (wave < -1)).sum(dim=(1, 2)).cpu().numpy()
        self.k_weighted.add(wave.clamp(-1, 1) if is_loud and self._settings.form.dtype.kind == "i" else wave)
        if self.sums:
            self.sums.add(wave)
        torch.from_numpy(self.frames[:, begin : self.position]).copy_(self._stored(whole).transpose(1, 2))

    @property
    def _full(self) -> float:
        """Full scale of the samples: of 16 or 24 bits; 1 for floats."""
        codec = self._settings.form
        return 1.0 if codec.dtype.kind == "f" else float(1 << (codec.bits - 1))

    def _rounded(self, wave: Tensor) -> Tensor:
        """Round in the same way as `codecs.raw`; whole numbers as float32, which holds 24 bits."""
        full = self._full
        return wave if full == 1 else (wave * full).round_().clamp_(-full, full - 1)

    def _stored(self, whole: Tensor) -> Tensor:
        """Return rounded samples in the codec's type."""
        import torch

        codec = self._settings.form
        if codec.dtype.kind == "f":
            return whole
        return whole.to(torch.int16) if codec.bits == 16 else whole.to(torch.int32) << (32 - codec.bits)

    def _with_mix(self, wave: Tensor, whole: Tensor, mix: Tensor) -> tuple[Tensor, Tensor]:
        """Append the residual and the mix, where they are written, to the stems' waves, and to their rounded samples."""
        import torch

        mix, settings = mix.to(wave.device), self._settings
        own = self._rounded(mix)
        waves, wholes = [wave], [whole]
        if settings.residual is not None:
            rest = self._residual(own, whole)[None]
            waves, wholes = [*waves, rest / self._full], [*wholes, rest]
        if settings.write_mix:
            waves, wholes = [*waves, mix[None]], [*wholes, own[None]]
        return torch.cat(waves), torch.cat(wholes)

    def _residual(self, mix: Tensor, stems: Tensor) -> Tensor:
        """Return the rounded mix minus the rounded stems.

        Sums of whole numbers are exact in float64, so stems and residual add up to the mix, but for residuals beyond full scale:
        they are clipped, and count as the residual's `clipped_samples`.
        """
        import torch

        residual, full = mix.double() - stems.double().sum(dim=0), self._full
        if full > 1:
            inside = residual.clamp(-full, full - 1)
            self._clipped[len(stems)] += int((inside != residual).sum())
            residual = inside
        return residual.to(torch.float32)

    def columns(self) -> dict[str, Any]:
        """Return the columns of the part's row."""
        sums = self.sums and self.sums.rows()
        own = {"stems": self.measured(), "sums": sums, "k_weighted": self.k_weighted.rows(), "payload": self.frames}
        return own | {"null_energies": self.null.tolist(), "null_db": null_db(self.null)}

    def measured(self) -> list[dict[str, Any]]:
        """Return the columns of each stem before it is written: stem, frames, peak_dbfs, rms_dbfs, clipped_samples."""
        frames, values = self.frames.shape[1], self.frames.shape[1] * self.frames.shape[2]
        return [
            {
                "stem": stem,
                "frames": frames,
                "peak_dbfs": _db(peak**2),
                "rms_dbfs": _db(power / values),
                "clipped_samples": int(clipped),
            }
            for stem, peak, power, clipped in zip(
                self._settings.written_stems, self._peaks, self._powers, self._clipped, strict=True
            )
        ]


def _energies(wave: Tensor) -> np.ndarray:
    """Return the sum of squares of each wave: (waves, channels, samples) to (waves,)."""
    import torch

    norms = torch.linalg.vector_norm(wave, dim=2)  # one dimension is four times as fast as two
    energies: np.ndarray = (norms.cpu().numpy().astype(np.float64) ** 2).sum(axis=1)
    return energies


def null_db(energies: np.ndarray) -> float | None:
    """Return the result of a null test in dB, -200 at best; None for silence, and where not all stems were separated.

    Args:
        energies: As `Stems.null` has them, of all parts.
    """
    difference, band = energies
    return max(ratio_db(difference, band) or NULL_DB, NULL_DB) if band > 0 else None


def _db(power: float) -> float | None:
    """Return a power in dB of full scale; None for silence."""
    return 10 * math.log10(power) if power > 0 else None


def ratio_db(part: float, whole: float) -> float | None:
    """Return the ratio of two energies in dB; None where either is zero."""
    return _db(part / whole) if whole > 0 else None


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the result of `Stems.measured` for a whole stem, from the results for its parts."""
    frames = sum(part["frames"] for part in parts)
    powers = [part["frames"] * 10 ** (part["rms_dbfs"] / 10) for part in parts if part["rms_dbfs"] is not None]
    return {
        "stem": parts[0]["stem"],
        "frames": frames,
        "peak_dbfs": max((part["peak_dbfs"] for part in parts if part["peak_dbfs"] is not None), default=None),
        "rms_dbfs": _db(sum(powers) / frames),
        "clipped_samples": sum(part["clipped_samples"] for part in parts),
    }


def lufs(parts: Sequence[pa.Table], stem_number: int, settings: Settings) -> float | None:
    """Return the integrated loudness of a stem in LUFS, as it is before it is mixed to mono or resampled.

    Args:
        parts: Rows of all parts of a track, in order.
        stem_number: Position of the stem among the settings' stems.
        settings: Settings of the run; the model's sample rate is used.

    Returns:
        The loudness; None below 0.4 s or in silence.
    """
    rate_hz, last = settings.spec.sample_rate_hz, parts[-1]
    samples, window = value(last, "begin") + value(last, "samples"), loudness.window_samples(rate_hz)
    own = ((value(part, "begin"), value(part, "k_weighted")[stem_number]) for part in parts)
    return loudness.integrated(windows.joined(own, window, samples), samples, rate_hz)


def write(out: IO[bytes] | str, blocks: Iterable[np.ndarray], settings: Settings, *, samples: int, tags: Tags = NO_TAGS) -> None:
    """Encode one stem.

    Args:
        out: A seekable file, or a path.
        blocks: Samples of the stem, (samples, channels) each, in the sample format `settings.form`.
        settings: Settings of the run.
        samples: Samples per channel of all blocks.
        tags: Tags of the file.
    """
    encoder = open_encoder(
        out,
        settings.codec,
        channels=settings.written_channels,
        rate_hz=settings.written_rate_hz,
        bitrate=settings.bitrate,
        samples=settings.written_frames(samples),
        tags=tags,
    )
    with encoder:
        for block in _reshaped(blocks, settings):
            encoder.add(block)


def _reshaped(blocks: Iterable[np.ndarray], settings: Settings) -> Iterable[np.ndarray]:
    """Return blocks as the codec takes them: unchanged, or mixed to mono and resampled."""
    if not settings.is_reshaped:
        return blocks
    waves = (codecs.wave_of(block) for block in blocks)
    if settings.mono:
        waves = (wave.mean(axis=0, keepdims=True) for wave in waves)
    resampler = Resampler(settings.spec.sample_rate_hz, settings.written_rate_hz, settings.written_channels)
    return (codecs.raw(wave, settings.codec) for wave in resampler.through(waves))
