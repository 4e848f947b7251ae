"""Facts about a source: `Header` before it is decoded, `Found` while and after; and the rules and limits of decoding.

Without FFmpeg: only the decoder's process loads that.
"""

from __future__ import annotations

from dataclasses import dataclass

# The rules by which sources become waves, as the index's column `decode_rules` names them. Null (before there were numbers): the
# first audio stream, its first two channels, Ogg as one stream. 1: FFmpeg's choice of the stream, more than two channels as
# `--downmix` says, Ogg link by link.
DECODE_RULES = 1
MAX_S = 24 * 3600  # a longer track is refused
LOUDEST = 2.0**32  # full scale of 32-bit integers that were written as floats; more is no wave, and its square no number


@dataclass(frozen=True)
class Header:
    """What a file's header says; None where it says nothing.

    Attributes:
        seconds: How long it is; a guess from the bitrate where the container does not say: raw AAC and AC-3, MP3 without a tag.
        rate_hz: Its own.
        channels: Its own.
        codec: FFmpeg's name of it.
    """

    seconds: float | None
    rate_hz: int | None
    channels: int | None
    codec: str


@dataclass
class Found:
    """What was found in a file: known as far as it was decoded, complete once its waves have ended.

    Attributes:
        rate_hz: The source's.
        channels: The source's.
        codec: FFmpeg's name of it.
        stream: Number of the stream that is read among the audio streams, from 0.
        streams: Number of audio streams in the file.
        samples: Decoded, at the rate asked for, between offset and duration.
        truncated: The file has, or had, more than was decoded, by the rules of `damage`.
        skipped_packets: Damaged ones, left out.
        source_used_ratio: Share of the file's bytes of audio that were decoded, 0 to 1; None where bytes do not count.
        nonfinite_samples: NaN, Inf and what is beyond `LOUDEST`, made zero.
        decoded_s: Seconds of the source that were decoded, with those before the offset.
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
