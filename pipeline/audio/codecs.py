"""Codecs that stems are written with, and the sample format that each takes. No codec is run here.

Integers are written as clip(round(x * 32768)), and likewise at 24 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

BLOCK = 1 << 16  # samples given to an encoder at once
_ANY_HZ = range(8_000, 192_001)
_MPEG_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


@dataclass(frozen=True)
class Codec:
    """A container with an encoder and its sample format.

    Attributes:
        container: FFmpeg's name of the muxer.
        encoder: FFmpeg's name of the encoder; `vorbis` is libvorbis, in vorbis.py.
        samples: FFmpeg's name of the encoder's sample format.
        bits: Bits per sample, where samples are integers.
        rates_hz: Sample rates that the encoder takes.
        bitrates: Bits per second that the encoder takes; empty where it is lossless.
        longer: Most samples by which a file decodes longer than it was written: the padding of its last frames.
        decodes_hz: Sample rate at which every file decodes; None where it is the one that was written.
        is_framed: Decoders drop a file's first frame, and the end that only a further frame would complete, so both get zeros.
    """

    container: str
    encoder: str
    samples: str
    bits: int = 16
    rates_hz: Sequence[int] = _ANY_HZ
    bitrates: range = range(0)
    longer: int = 0
    decodes_hz: int | None = None
    is_framed: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that `raw` returns."""
        return np.dtype({"s16": np.int16, "s32": np.int32}.get(self.samples.removesuffix("p"), np.float32))

    @property
    def bytes_a_value(self) -> int:
        """Bytes of one value in an uncompressed file."""
        return self.bits // 8 if self.samples.startswith("s") else 4

    def rate_for(self, rate_hz: int) -> int:
        """Return the default sample rate for a wave of this one: the same where the encoder takes it, else the next above."""
        if rate_hz in self.rates_hz:
            return rate_hz
        return min((rate for rate in self.rates_hz if rate >= rate_hz), default=max(self.rates_hz))


CODECS: dict[str, dict[str, Codec]] = {  # by --format and --bit-depth; a lossy format has no depth
    "flac": {"16": Codec("flac", "flac", "s16"), "24": Codec("flac", "flac", "s32", 24)},
    "wav": {
        "16": Codec("wav", "pcm_s16le", "s16"),
        "24": Codec("wav", "pcm_s24le", "s32", 24),
        "float": Codec("wav", "pcm_f32le", "flt"),
    },
    "mp3": {"": Codec("mp3", "libmp3lame", "fltp", rates_hz=_MPEG_HZ, bitrates=range(8_000, 320_001), longer=1152)},
    "m4a": {
        "": Codec(
            *("ipod", "aac", "fltp"),
            rates_hz=(*_MPEG_HZ, 64_000, 88_200, 96_000),
            bitrates=range(8_000, 512_001),
            longer=1023,
        )
    },
    "opus": {
        "": Codec(
            *("ogg", "libopus", "flt"),
            rates_hz=(8_000, 12_000, 16_000, 24_000, 48_000),
            bitrates=range(6_000, 256_001),
            decodes_hz=48_000,
        )
    },
    "ogg": {"": Codec("ogg", "vorbis", "flt", bitrates=range(48_000, 500_001))},
    "wma": {
        "": Codec(
            *("asf", "wmav2", "fltp"),
            rates_hz=(8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000),
            bitrates=range(24_000, 320_001),
            longer=4096,
            is_framed=True,
        )
    },
}
BY_ENCODER = {codec.encoder: codec for depths in CODECS.values() for codec in depths.values()}
FLOAT = CODECS["wav"]["float"]
DEFAULT_BITRATE = 128_000  # Spleeter's


def is_lossy(format: str) -> bool:
    """Tell whether a format of `CODECS` takes a bitrate instead of a bit depth."""
    return "" in CODECS[format]


def raw(wave: np.ndarray, codec: Codec) -> np.ndarray:
    """Return a wave's samples as a codec takes them: (samples, channels) of `codec.dtype`; integers are clipped."""
    values = _rounded(wave, codec.bits) if codec.samples.startswith("s") else wave
    return np.ascontiguousarray(values.T)


def wave_of(frames: np.ndarray) -> np.ndarray:
    """Undo `raw`, up to its rounding: (channels, samples) float32."""
    full = np.float32(1 if frames.dtype.kind == "f" else -int(np.iinfo(frames.dtype).min))
    return np.ascontiguousarray(frames.T / full, np.float32)


def _rounded(wave: np.ndarray, bits: int) -> np.ndarray:
    """Round to integers: int16, or 24 bits at the top of int32 as FFmpeg takes them. Exact, since full scale is 2^n."""
    full = np.float32(1 << (bits - 1))
    rounded = np.clip(np.rint(wave * full), -full, full - 1)
    return rounded.astype(np.int16) if bits == 16 else rounded.astype(np.int32) << (32 - bits)
