"""Reads an opened container's samples: stereo float32 at one rate, with what is damaged left out and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from sep_batch.pipeline import failures
from sep_batch.pipeline.audio.containers import DECODERS, MAX_FRAME_SAMPLES
from sep_batch.pipeline.audio.damage import Packets
from sep_batch.pipeline.audio.decode_guard import Watched

MAX_CHANNELS = 64  # FFmpeg's resampler takes no more
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
_BLOCK = 1 << 16  # samples yielded at once
_FULL_SCALE = {"flt": 1, "fltp": 1, "s16": 1 << 15, "s16p": 1 << 15, "s32": 1 << 31, "s32p": 1 << 31}  # read as they are
_BROKEN = (av.error.FFmpegError, ValueError, EOFError)


@dataclass
class Found:
    """What was found in a file: known as far as it was decoded, complete once its waves have ended.

    Attributes:
        rate_hz: The source's.
        channels: The source's.
        codec: FFmpeg's name of it.
        samples: Decoded, at the rate asked for, between offset and duration.
        truncated: The file has, or had, more than was decoded, by the rules of `damage`.
        skipped_packets: Damaged ones, left out.
        source_used_ratio: Share of the file's bytes of audio that were decoded, 0 to 1; None where bytes do not count.
        nonfinite_samples: NaN, Inf and what is beyond `audio.LOUDEST`, made zero.
        decoded_s: Seconds of the source that were decoded, with those before the offset.
    """

    rate_hz: int = 0
    channels: int = 0
    codec: str = ""
    samples: int = 0
    truncated: bool = False
    skipped_packets: int = 0
    source_used_ratio: float | None = None
    nonfinite_samples: int = 0
    decoded_s: float = 0.0


class Reader:
    """Iterates over a container's samples, (2, n) float32 at one rate, counting what is damaged."""

    def __init__(self, container: Any, rate_hz: int, found: Found, watched: Watched) -> None:
        watched.settle()
        if not container.streams.audio:
            raise failures.UnsupportedFormat(f"{container.format.name}: no audio stream")
        stream = container.streams.audio[0]
        codec = stream.codec_context
        if codec is None or codec.name not in DECODERS:
            raise failures.UnsupportedFormat(
                f"{container.format.name}: a codec that is not read ({codec.name if codec else None})"
            )
        codec.thread_count = 1  # tracks run side by side instead
        codec.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
        self.container, self.stream, self.rate_hz, self.found, self.watched = container, stream, rate_hz, found, watched
        found.codec = codec.name
        _refuse_form(codec.layout.nb_channels or 1, codec.sample_rate or rate_hz)  # 0: known with the first frame
        self.packets = Packets(is_ogg=container.format.name == "ogg")
        self.ended = False

    def __iter__(self) -> Iterator[np.ndarray]:
        kept, samples = list[np.ndarray](), 0
        for piece in self._pieces():
            kept.append(piece)
            samples += piece.shape[1]
            if samples >= _BLOCK:
                yield np.concatenate(kept, axis=1)
                kept, samples = [], 0
        if kept:
            yield np.concatenate(kept, axis=1)

    def _pieces(self) -> Iterator[np.ndarray]:
        resampler: Any = None
        form = None
        for frame in self._frames():
            if (frame.layout.name, frame.sample_rate) != form:
                if resampler is not None:  # the stream changed its form midway
                    yield from map(_stereo, resampler.resample(None))
                form, resampler = (frame.layout.name, frame.sample_rate), None
                _refuse_form(frame.layout.nb_channels, frame.sample_rate)
                if frame.sample_rate != self.rate_hz or frame.layout.nb_channels > 2 or frame.format.name not in _FULL_SCALE:
                    resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=self.rate_hz)
                self.found.rate_hz = self.found.rate_hz or frame.sample_rate
                self.found.channels = self.found.channels or frame.layout.nb_channels
            self.watched.decoded_s += frame.samples / frame.sample_rate
            self.found.decoded_s += frame.samples / frame.sample_rate
            if resampler is None:
                yield _stereo(frame)
                continue
            frame.pts = None  # samples are counted, time stamps are not trusted
            yield from map(_stereo, resampler.resample(frame))
        if resampler is not None:
            yield from map(_stereo, resampler.resample(None))
        self.ended = True

    def _frames(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            self.watched.settle()
            try:
                packet = next(packets)
            except StopIteration:
                self.watched.settle()
                return
            except _BROKEN:  # the rest of the container cannot be read
                self.watched.settle()
                self._count(None, 0, is_good=False)
                return
            is_good = True
            try:
                yield from packet.decode()
            except _BROKEN:
                is_good = False
            if packet.size or not is_good:  # the last one is empty, and flushes the decoder
                self._count(packet.pos, packet.size, is_good=is_good)

    def _count(self, place: int | None, size: int, *, is_good: bool) -> None:
        self.packets.add(place, size, is_good=is_good)
        self.found.skipped_packets = self.packets.broken

    def streams(self) -> list[Any]:
        """Return the container's streams of sound and film; FFmpeg shows covers as films of one frame, or as attachments."""
        streams = [stream for stream in self.container.streams if stream.type in ("audio", "video")]
        return [stream for stream in streams if not stream.disposition & Disposition.attached_pic]

    def declared_s(self) -> float:
        """Return how long the container says it is; 0 where it says nothing."""
        if self.container.format.name == "caf" and self.found.codec.startswith("pcm") and self.found.rate_hz:
            return float(self.stream.frames / self.found.rate_hz)  # its duration is that of the bytes which are there
        if self.stream.duration is not None:
            return float(self.stream.duration * self.stream.time_base)
        return float((self.container.duration or 0) / av.time_base)


def _refuse_form(channels: int, rate_hz: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise failures.UnsupportedFormat(f"{channels:,} channels, expected 1 to {MAX_CHANNELS}")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise failures.UnsupportedFormat(f"a rate of {rate_hz:,} Hz, expected {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,}")


def _stereo(frame: Any) -> np.ndarray:
    """Return a frame's first two channels, (2, n) float32; planar ones of eight channels and more crash PyAV 18."""
    values: np.ndarray = frame.to_ndarray()
    planes = values if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels).T
    full = _FULL_SCALE[frame.format.name]
    wave = planes if full == 1 else planes.astype(np.float32) * np.float32(1 / full)
    return np.repeat(wave, 2, axis=0) if len(wave) == 1 else wave[:2]
