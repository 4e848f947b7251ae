"""Decoding of a file to a stereo wave, piece by piece, and reading of its header.

Waves are (2, samples) float32, full scale 1. Integers are read as x / 32768, and likewise at 24 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import IO

import numpy as np

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import chain, containers, damage, extent, headers
from sep_batch.pipeline.audio.chain import Chain
from sep_batch.pipeline.audio.containers import AudioFile
from sep_batch.pipeline.audio.damage import OnDamage
from sep_batch.pipeline.audio.downmix import DEFAULT_DOWNMIX, Downmix
from sep_batch.pipeline.audio.reader import MAX_RATE_HZ, Reader
from sep_batch.pipeline.audio.source_info import LOUDEST, MAX_S, Found, Header

_FAR_S = 1e9  # past the end of every file
_GUESSED = ("aac", "ac3", "mp3")  # FFmpeg may guess the duration from the number of bytes: tags must be left out first
_DOUBTED = ("asf", "mp3")  # FFmpeg guesses where a picture behind the audio makes the file longer than its header declares
_UNDECLARED = ("aac", "ac3")  # raw streams: FFmpeg guesses their duration from the bitrate


def decode(
    source: IO[bytes],
    *,
    rate_hz: int,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    downmix: Downmix = DEFAULT_DOWNMIX,
    on_damage: OnDamage = "keep",
    stream: int | None = None,
) -> tuple[Iterator[np.ndarray], Found]:
    """Decode a file to a stereo wave, piece by piece as the iterator is read.

    Args:
        source: Seekable, at its start; stays open until the wave has ended.
        rate_hz: Sample rate of the wave; other rates are resampled in the file's own layout, so levels stay.
        offset_s: Seconds that are decoded and dropped, not sought, so that an excerpt is exactly that of the whole.
        duration_s: Seconds from the offset on; None is to the end.
        downmix: Rule for more than two channels: `itu`, or `first-two`.
        on_damage: `keep` flags a file that is truncated or has broken packets; `fail` fails it.
        stream: Number of the audio stream, from 0; None is FFmpeg's choice. Ogg files have no other.

    Returns:
        The wave in pieces, each (2, samples) float32, together at least one sample, and facts that are filled in on the way.

    Raises:
        UnsupportedFormat: The container or codec is not supported.
        DecodeError: Nothing in the file can be decoded.
        EmptyAudio: The file has no samples, or none between offset and duration.
        TooLong: The wave is longer than `MAX_S`.
        NonfiniteAudio: No sample is a number.
        Damaged: Less was decoded than the rules of `damage` accept, or with `on_damage` "fail" less than all.

    The iterator raises all of them, the last one at its end.
    """
    facts = Found()
    return _pieces(source, rate_hz, offset_s, duration_s, downmix, on_damage, stream, facts), facts


def probe(source: IO[bytes]) -> Header:
    """Read a file's header; decode nothing.

    Args:
        source: Seekable, at its start.

    Raises:
        EmptyAudio, UnsupportedFormat, DecodeError, TooLong: As `decode` raises them.
    """
    file = containers.identify(source)
    front = extent.look(file) if file.name in _DOUBTED else extent.Front()
    if front.mp3_frames:
        file = extent.end_unread(file)
    elif file.name in _GUESSED:
        file, _ = extent.without_tags(file)
    bound = containers.MOST_ALLOCATED_BYTES  # the bound is the process's, and threads probe files of all kinds
    with containers.opened(file, bound_bytes=bound) as (container, watched):
        reader = Reader(container, MAX_RATE_HZ, Found(), watched)
        codec = reader.stream.codec_context
        reader.found.rate_hz = codec.sample_rate
        seconds = reader.declared_s() if file.name != "ogg" else chain.declared_s(file, watched)
        if file.name in _DOUBTED:
            header_s = _declared_s(reader, file, front)
            seconds = header_s if header_s and abs(header_s - seconds) > damage.SLACK_S else seconds
        return Header(seconds if seconds > 0 else None, codec.sample_rate or None, reader.channels or None, codec.name)


def _pieces(
    source: IO[bytes],
    rate_hz: int,
    offset_s: float,
    duration_s: float | None,
    downmix: Downmix,
    on_damage: OnDamage,
    stream: int | None,
    facts: Found,
) -> Iterator[np.ndarray]:
    file, audio_end = extent.without_tags(containers.identify(source))
    front = extent.look(file)
    begin, samples = _samples(offset_s, rate_hz), None if duration_s is None else _samples(duration_s, rate_hz)
    with chain.reading(file, rate_hz, facts, downmix, stream) as reader:
        end_s = math.inf if duration_s is None else offset_s + duration_s
        if min(_declared_s(reader, file, front) or 0.0, end_s) - offset_s > MAX_S + damage.SLACK_S:
            raise errors.TooLong(_too_long())
        yield from _kept(reader, begin, samples)
        counts = damage.Counts.of(reader.packets)
        if reader.ended and facts.samples != samples:  # else the excerpt is complete
            counts = reader.counts() if isinstance(reader, Chain) else _counts(reader, file, front, audio_end)
            counts = replace(counts, declared_s=counts.declared_s and min(counts.declared_s, end_s))
        _judge(counts, on_damage, facts)


def _declared_s(reader: Reader | Chain, file: AudioFile, front: extent.Front) -> float | None:
    """Return the declared duration in seconds; None where there is none, or FFmpeg would guess it."""
    if file.name == "mp3" and isinstance(reader, Reader):
        return front.mp3_s(reader.stream.codec_context.sample_rate)
    if file.name == "asf":
        return front.asf_s
    return None if file.name in _UNDECLARED else reader.declared_s() or None


def _counts(reader: Reader, file: AudioFile, front: extent.Front, audio_end: int) -> damage.Counts:
    """Return the counts of a file that was read to its end.

    Args:
        reader: The reader, at its end.
        file: The file that it read.
        front: Facts from the first bytes of the file.
        audio_end: End of the audio, where zeros at the end of the file begin.
    """
    packets, streams, came_s = reader.packets, reader.streams(), reader.watched.decoded_s
    packets.leave_out(audio_end)
    declared_s = _declared_s(reader, file, front)
    if front.wav_share < 1:
        declared_s = max(declared_s or 0.0, came_s / front.wav_share)
    elif declared_s and not reader.found.codec.startswith("pcm"):
        bit_rates = [stream.bit_rate for stream in streams]
        declared_s = None if damage.is_guess(declared_s, file.name, bit_rates, audio_end, packets.first) else declared_s
    is_cut = file.name == "wav" and headers.is_cut_short(file.head, file.size)
    counts = replace(damage.Counts.of(packets), came_s=came_s, declared_s=declared_s, is_cut=is_cut)
    if file.name not in extent.RAW or len(streams) > 1:
        return counts
    return replace(counts, audio_bytes=max(0, audio_end - front.audio_begin(packets.first)), end_bytes=audio_end - packets.end)


def _judge(counts: damage.Counts, on_damage: OnDamage, facts: Found) -> None:
    verdict = damage.judge(counts)
    facts.truncated, facts.source_used_ratio = verdict.is_truncated, verdict.used_ratio
    facts.skipped_packets = counts.broken
    if verdict.is_damaged or (on_damage == "fail" and (facts.truncated or facts.skipped_packets)):
        raise errors.Damaged(verdict.text)


def _samples(seconds: float, rate_hz: int) -> int:
    return round(min(seconds, _FAR_S) * rate_hz)


def _kept(reader: Reader | Chain, begin: int, samples: int | None) -> Iterator[np.ndarray]:
    """Yield `samples` samples from `begin` on, as soon as they are decoded; values that are no numbers become zero."""
    facts, position = reader.found, 0
    end = None if samples is None else begin + samples
    for block in reader:
        first, stop = max(begin - position, 0), block.shape[1] if end is None else min(end - position, block.shape[1])
        position += block.shape[1]
        if first < stop:
            facts.samples += stop - first
            if facts.samples > MAX_S * reader.rate_hz:
                raise errors.TooLong(_too_long())
            yield _finite(block[:, first:stop], facts)
        if end is not None and position >= end:
            break
    if not position and facts.skipped_packets:
        raise errors.DecodeError(f"none of its {facts.skipped_packets} packets could be decoded")
    if not facts.samples:
        start_s, file_s = begin / reader.rate_hz, position / reader.rate_hz
        raise errors.EmptyAudio(f"no samples from {start_s:g} s on; the file lasts {file_s:g} s")
    if facts.nonfinite_samples == 2 * facts.samples:
        raise errors.NonfiniteAudio(f"all {facts.nonfinite_samples:,} sample values are NaN, Inf or beyond any full scale")


def _too_long() -> str:
    return f"longer than {MAX_S / 3600:g} h; set an offset and a duration, or split the file"


def _finite(wave: np.ndarray, facts: Found) -> np.ndarray:
    if max(wave.max(), -wave.min()) <= LOUDEST:  # false where one is NaN
        return wave
    is_number = np.abs(wave) <= LOUDEST
    facts.nonfinite_samples += wave.size - int(np.count_nonzero(is_number))
    return np.where(is_number, wave, np.float32(0))
