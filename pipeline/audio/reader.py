"""Reads an opened container's samples: stereo float32 at one sample rate; damaged packets are left out and counted."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import downmix, streams
from sep_batch.pipeline.audio.containers import MAX_FRAME_SAMPLES
from sep_batch.pipeline.audio.damage import Packets
from sep_batch.pipeline.audio.decode_guard import DecodeGuard
from sep_batch.pipeline.audio.source_info import Found
from sep_batch.pipeline.audio.streams import MAX_CHANNELS

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
_BLOCK = 1 << 16  # samples yielded at once
_FULL_SCALE = {"flt": 1, "fltp": 1, "s16": 1 << 15, "s16p": 1 << 15, "s32": 1 << 31, "s32p": 1 << 31}  # not converted by FFmpeg
_BROKEN = (av.error.FFmpegError, ValueError, EOFError)


class Reader:
    """Iterates over a container's samples, (2, n) float32 at one sample rate, and counts damaged packets."""

    def __init__(
        self,
        container: Any,
        rate_hz: int,
        facts: Found,
        watched: DecodeGuard,
        mixing: downmix.Downmix = downmix.DEFAULT_DOWNMIX,
        packets: Packets | None = None,
        stream: int | None = None,
    ) -> None:
        watched.settle()
        chosen = streams.choose(container, stream)
        codec = chosen.stream.codec_context
        codec.thread_count = 1  # tracks are decoded in parallel instead
        codec.options = {"max_samples": str(MAX_FRAME_SAMPLES)}
        self.container, self.stream, self.rate_hz, self.found, self.watched = container, chosen.stream, rate_hz, facts, watched
        self.channels, self.names, self._mixing = chosen.channels, chosen.names, mixing
        facts.codec, facts.stream, facts.streams = codec.name, chosen.number, chosen.streams
        _refuse_form(chosen.channels or 1, codec.sample_rate or rate_hz)  # 0: the first frame has it
        self.packets = packets or Packets()
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
        form = gains = None
        for frame in self._frames():
            if (frame.layout.name, frame.sample_rate) != form:
                if resampler is not None:  # the stream changed its channels or rate midway
                    yield from (_stereo(rest, gains) for rest in resampler.resample(None))
                form, resampler = (frame.layout.name, frame.sample_rate), None
                _refuse_form(frame.layout.nb_channels, frame.sample_rate)
                gains = downmix.matrix(self._names(frame), self._mixing)
                if frame.sample_rate != self.rate_hz or frame.layout.nb_channels > 2 or frame.format.name not in _FULL_SCALE:
                    resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=self.rate_hz)
                self.found.rate_hz = self.found.rate_hz or frame.sample_rate
                self.found.channels = self.found.channels or frame.layout.nb_channels
            self.watched.decoded_s += frame.samples / frame.sample_rate
            self.found.decoded_s += frame.samples / frame.sample_rate
            if resampler is None:
                yield _stereo(frame, gains)
                continue
            frame.pts = None  # samples are counted instead: time stamps may be wrong
            yield from (_stereo(resampled, gains) for resampled in resampler.resample(frame))
        if resampler is not None:
            yield from (_stereo(rest, gains) for rest in resampler.resample(None))
        self.ended = True

    def _names(self, frame: Any) -> tuple[str, ...]:
        """Return the channel names of a frame: the decoder's own, else those of the header."""
        names = tuple(channel.name for channel in frame.layout.channels)
        if downmix.is_custom(names):  # PyAV would free the frame's list of channels twice, see `streams.taken_channels`
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(frame))
            raise errors.UnsupportedFormat(f"{self.found.codec}: unsupported channel order ({' '.join(names)})")
        if self.found.codec in streams.NAMELESS:
            return (downmix.NAMELESS,) * len(names)
        return self.names if len(self.names) == len(names) and not downmix.is_named(names) else names

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

    def _count(self, position: int | None, size: int, *, is_good: bool) -> None:
        self.packets.add(position, size, is_good=is_good)
        self.found.skipped_packets = self.packets.broken

    def streams(self) -> list[Any]:
        """Return the container's audio and video streams, without covers, which FFmpeg shows as videos or attachments."""
        streams = [stream for stream in self.container.streams if stream.type in ("audio", "video")]
        return [stream for stream in streams if not stream.disposition & Disposition.attached_pic]

    def declared_s(self) -> float:
        """Return the duration that the container declares, in seconds; 0 where it declares none."""
        if self.container.format.name == "caf" and self.found.codec.startswith("pcm") and self.found.rate_hz:
            return float(self.stream.frames / self.found.rate_hz)  # FFmpeg's duration is that of the bytes that are there
        if self.stream.duration is not None:
            return float(self.stream.duration * self.stream.time_base)
        return float((self.container.duration or 0) / av.time_base)


def _refuse_form(channels: int, rate_hz: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise errors.UnsupportedFormat(f"{channels:,} channels, expected 1 to {MAX_CHANNELS}")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise errors.UnsupportedFormat(f"sample rate {rate_hz:,} Hz, expected {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,}")


def _stereo(frame: Any, gains: np.ndarray | None) -> np.ndarray:
    """Return a frame as stereo, (2, n) float32: mixed with `gains`; without them mono doubled, or the first two channels.

    Planar frames of eight channels and more crash PyAV 18, so the resampler packs those.
    """
    values: np.ndarray = frame.to_ndarray()
    planes = values if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels).T
    full = _FULL_SCALE[frame.format.name]
    wave = planes if full == 1 else planes.astype(np.float32) * np.float32(1 / full)
    if gains is not None:
        return downmix.mixed(wave, gains)
    return np.repeat(wave, 2, axis=0) if len(wave) == 1 else wave[:2]
