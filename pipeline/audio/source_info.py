"""Facts about a source: `Header` before it is decoded, `Found` during and after; and the rules and limits of decoding.

This module does not import FFmpeg, which only the decoder's child processes load.
"""

from __future__ import annotations

from dataclasses import dataclass

# Version of the rules by which sources are decoded, in the index's column `decode_rules`. Null, from before versions existed: the
# first audio stream, its first two channels, Ogg as one stream. 1: FFmpeg's choice of the stream, more than two channels mixed by
# `--downmix`, Ogg link by link.
DECODE_RULES = 1
MAX_S = 24 * 3600  # longer tracks are refused
LOUDEST = 2.0**32  # full scale of 32-bit integers that were written as floats; larger values are garbage, and squares overflow


@dataclass(frozen=True)
class Header:
    """Facts in a file's header; None where a fact is missing.

    Attributes:
        seconds: Duration; a guess from the bitrate where the container declares none: raw AAC and AC-3, MP3 without a Xing frame.
        rate_hz: Sample rate of the source.
        channels: Number of channels of the source.
        codec: FFmpeg's name of the codec.
    """

    seconds: float | None
    rate_hz: int | None
    channels: int | None
    codec: str


@dataclass
class Found:
    """Facts from decoding a file, as far as it was decoded; complete once its waves have ended.

    Attributes:
        rate_hz: Sample rate of the source.
        channels: Number of channels of the source.
        codec: FFmpeg's name of the codec.
        stream: Number of the decoded stream among the audio streams, from 0.
        streams: Number of audio streams in the file.
        samples: Samples per channel of the wave, at its sample rate, between offset and duration.
        truncated: The file has, or had, more audio than was decoded, by the rules of `damage`.
        skipped_packets: Number of damaged packets, which were left out.
        source_used_ratio: Share of the file's bytes of audio that were decoded, 0 to 1; None where bytes do not count.
        nonfinite_samples: Number of values that were NaN, Inf or beyond `LOUDEST`, and set to zero.
        decoded_s: Seconds of the source that were decoded, including those before the offset.
    """

    rate_hz: int = 0
    channels: int = 0
    codec: str = ""
    stream: int = 0
    streams: int = 0
    samples: int = 0
    truncated: bool = False
    skipped_packets: int = 0
    source_used_ratio: float | None = None
    nonfinite_samples: int = 0
    decoded_s: float = 0.0
