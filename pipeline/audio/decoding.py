"""Decode: a file becomes a stereo wave as it is asked for, or says what its header knows.

Waves are (2, samples) float32, full scale 1. Integers are read as x / 32768, and likewise at 24 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from sep_batch.pipeline import failures
from sep_batch.pipeline.audio import chain, containers, headers
from sep_batch.pipeline.audio.chain import Chain
from sep_batch.pipeline.audio.reader import DECLARED_SLACK_S, MAX_RATE_HZ, Found, Reader

MAX_S = 24 * 3600  # a longer track is refused
LOUDEST = 2.0**32  # full scale of 32-bit integers that were written as floats; more is no wave, and its square no number
_FAR_S = 1e9  # past the end of every file
_UNDECLARED = ("aac", "ac3")  # raw streams: FFmpeg guesses their length from the bitrate
_MP3_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")


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


def decode(
    source: IO[bytes], *, rate_hz: int, offset_s: float = 0.0, duration_s: float | None = None
) -> tuple[Iterator[np.ndarray], Found]:
    """Decode a file to a stereo wave, as it is asked for.

    Args:
        source: Seekable, at its start; open until the wave has ended.
        rate_hz: Of the wave; other rates are resampled in the file's own layout, so levels stay.
        offset_s: Decoded and dropped, not sought, so an excerpt is exactly that of the whole.
        duration_s: From the offset on; None is to the end.

    Returns:
        The wave in pieces, each (2, samples) float32, together at least one sample, and what is found on the way.

    Raises:
        UnsupportedFormat: Not a container or codec that is read.
        DecodeError: Nothing in it can be decoded.
        EmptyAudio: No samples, or none between offset and duration.
        TooLong: More than `MAX_S`.
        NonfiniteAudio: No sample is a number.

    All of them are raised by the iterator.
    """
    found = Found()
    return _pieces(source, rate_hz, offset_s, duration_s, found), found


def probe(source: IO[bytes]) -> Header:
    """Read what a file's header says, and decode nothing.

    Args:
        source: Seekable, at its start.

    Raises:
        EmptyAudio, UnsupportedFormat, DecodeError, TooLong: As `decode` does.
    """
    file = containers.identify(source)
    bound = containers.MOST_ALLOCATED_BYTES  # files of all kinds are probed at once, and it is the process's
    with containers.opened(file, bound_bytes=bound) as (container, watched):
        reader = Reader(container, MAX_RATE_HZ, Found(), watched)
        codec = reader.stream.codec_context
        reader.found.rate_hz = codec.sample_rate
        seconds = reader.declared_s() if file.name != "ogg" else chain.declared_s(file, watched)
        channels = codec.layout.nb_channels
        return Header(seconds if seconds > 0 else None, codec.sample_rate or None, channels or None, codec.name)


def _pieces(source: IO[bytes], rate_hz: int, offset_s: float, duration_s: float | None, found: Found) -> Iterator[np.ndarray]:
    file = containers.identify(source)
    begin, samples = _samples(offset_s, rate_hz), None if duration_s is None else _samples(duration_s, rate_hz)
    cut_short = duration_s is None and file.name == "wav" and headers.is_cut_short(file.head, file.size)
    with chain.reading(file, rate_hz, found) as reader:
        declares = file.name not in _UNDECLARED and (file.name != "mp3" or any(tag in file.head for tag in _MP3_LENGTH_TAGS))
        if declares and min(reader.declared_s() - offset_s, duration_s or math.inf) > MAX_S + DECLARED_SLACK_S:
            raise failures.TooLong(_too_long())
        yield from _kept(reader, begin, samples)
        found.truncated = cut_short or (declares and reader.is_truncated())


def _samples(seconds: float, rate_hz: int) -> int:
    return round(min(seconds, _FAR_S) * rate_hz)


def _kept(reader: Reader | Chain, begin: int, samples: int | None) -> Iterator[np.ndarray]:
    """Yield so many samples from `begin` on, as soon as they come, with what is no number made zero."""
    found, place = reader.found, 0
    end = None if samples is None else begin + samples
    for block in reader:
        first, stop = max(begin - place, 0), block.shape[1] if end is None else min(end - place, block.shape[1])
        place += block.shape[1]
        if first < stop:
            found.samples += stop - first
            if found.samples > MAX_S * reader.rate_hz:
                raise failures.TooLong(_too_long())
            yield _finite(block[:, first:stop], found)
        if end is not None and place >= end:
            break
    if not place and found.skipped_packets:
        raise failures.DecodeError(f"none of its {found.skipped_packets} packets could be decoded")
    if not found.samples:
        raise failures.EmptyAudio(f"no samples from {begin / reader.rate_hz:g} s on; the file has {place / reader.rate_hz:g} s")
    if found.nonfinite_samples == 2 * found.samples:
        raise failures.NonfiniteAudio(f"{found.nonfinite_samples} samples, none of them a number")


def _too_long() -> str:
    return f"longer than {MAX_S / 3600:g} h; give offset and duration, or cut it"


def _finite(wave: np.ndarray, found: Found) -> np.ndarray:
    if max(wave.max(), -wave.min()) <= LOUDEST:  # false where one is NaN
        return wave
    is_number = np.abs(wave) <= LOUDEST
    found.nonfinite_samples += wave.size - int(np.count_nonzero(is_number))
    return np.where(is_number, wave, np.float32(0))
