"""Codecs: the ways to write a wave, and its samples in the form that each is given them in. No codec is run here.

Integers are written as clip(round(x * 32768)), and likewise at 24 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 1 << 16  # samples given to an encoder at once


@dataclass(frozen=True)
class Codec:
    """One way to write a wave, in FFmpeg's names: muxer, encoder, and the form of the samples it is given."""

    container: str
    encoder: str
    samples: str
    bits: int = 16

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that `raw` gives."""
        return np.dtype({"s16": np.int16, "s32": np.int32}.get(self.samples.removesuffix("p"), np.float32))

    @property
    def bytes_a_value(self) -> int:
        """Bytes of one value in the file, where it is not compressed."""
        return self.bits // 8 if self.samples.startswith("s") else 4


CODECS: dict[str, dict[str, Codec]] = {  # by --format and --bit-depth; a lossy format has no depth
    "flac": {"16": Codec("flac", "flac", "s16"), "24": Codec("flac", "flac", "s32", 24)},
    "wav": {
        "16": Codec("wav", "pcm_s16le", "s16"),
        "24": Codec("wav", "pcm_s24le", "s32", 24),
        "float": Codec("wav", "pcm_f32le", "flt"),
    },
    "mp3": {"": Codec("mp3", "libmp3lame", "fltp")},
}
DEFAULT_BITRATE = 128_000  # Spleeter's


def is_lossy(format: str) -> bool:
    """Tell whether a format of `CODECS` takes a bitrate instead of a bit depth."""
    return "" in CODECS[format]


def raw(wave: np.ndarray, codec: Codec) -> np.ndarray:
    """Return a wave's samples as a codec takes them: (samples, channels) of `codec.dtype`, clipped where it holds integers."""
    values = _rounded(wave, codec.bits) if codec.samples.startswith("s") else wave
    return np.ascontiguousarray(values.T)


def wave_of(frames: np.ndarray) -> np.ndarray:
    """Undo `raw`, up to its rounding: (channels, samples) float32."""
    full = np.float32(1 if frames.dtype.kind == "f" else -int(np.iinfo(frames.dtype).min))
    return np.ascontiguousarray(frames.T / full, np.float32)


def _rounded(wave: np.ndarray, bits: int) -> np.ndarray:
    """Round to integers: int16, or 24 bits at the top of int32 as FFmpeg wants them. Exact, full scale being 2^n."""
    full = np.float32(1 << (bits - 1))
    rounded = np.clip(np.rint(wave * full), -full, full - 1)
    return rounded.astype(np.int16) if bits == 16 else rounded.astype(np.int32) << (32 - bits)
