"""Bit-exact encoding of a wave to a file: same samples, same bytes. FFmpeg's encoders, and the choice of an encoder."""

from __future__ import annotations

import io
from fractions import Fraction
from types import TracebackType
from typing import IO, Any, Self

import av
import numpy as np
from av.stream import Disposition

from sep_batch.pipeline.audio import tag_writer
from sep_batch.pipeline.audio.codecs import BLOCK, Codec, raw
from sep_batch.pipeline.audio.tags import NO_TAGS, Tags
from sep_batch.pipeline.audio.vorbis import VorbisEncoder

_RIFF_BYTES = (1 << 32) - 1024  # most bytes of samples that fit beside the headers of a plain WAV
_COVER_UNIT = Fraction(1, 1000)  # unit of the time of a cover, which has none


def open_encoder(
    out: IO[bytes] | str,
    codec: Codec,
    *,
    channels: int,
    rate_hz: int,
    bitrate: int | None = None,
    samples: int = 0,
    tags: Tags = NO_TAGS,
) -> Encoder | VorbisEncoder:
    """Begin a file.

    Args:
        out: A seekable file, or a path.
        codec: Codec to write with.
        channels: Number of channels, 1 or 2.
        rate_hz: Sample rate of the wave, one of the codec's.
        bitrate: Bits per second, for lossy codecs.
        samples: Samples per channel to come; a WAV that would exceed 4 GiB is written as RF64.
        tags: Tags of the file; WMA gets no cover.
    """
    if codec.encoder == "vorbis":
        return VorbisEncoder(out, channels=channels, rate_hz=rate_hz, bitrate=bitrate, tags=tags)
    return Encoder(out, codec, channels=channels, rate_hz=rate_hz, bitrate=bitrate, samples=samples, tags=tags)


class Encoder:
    """Writes one wave bit-exact, block by block: same samples, same bytes, for any cut into blocks."""

    def __init__(
        self, out: IO[bytes] | str, codec: Codec, *, channels: int, rate_hz: int, bitrate: int | None, samples: int, tags: Tags
    ) -> None:
        self.codec, self._rate_hz, self._channels, self._position = codec, rate_hz, channels, 0
        options = {"fflags": "+bitexact"}
        most_bytes = _RIFF_BYTES - tag_writer.reserved_bytes(codec.container, tags)
        if codec.container == "wav" and samples * channels * codec.bytes_a_value >= most_bytes:
            options["rf64"] = "always"
        if codec.container == "ipod":
            options["movie_timescale"] = str(rate_hz)  # else the duration is stored in milliseconds
        self._layout = "stereo" if channels == 2 else "mono"
        self._tags, self._out, self._file = tags, out, out
        if tags:
            options |= tag_writer.muxer_options(codec.container)
            self._file = tag_writer.begin(out, codec.container, tags)
        self._muxer = av.open(self._file, "w", format=codec.container, options=options)
        stream: Any = self._muxer.add_stream(codec.encoder, rate=rate_hz, options={"flags": "+bitexact"}, layout=self._layout)
        stream.format = codec.samples
        if bitrate:
            stream.bit_rate = bitrate
        self._stream = stream
        if tags:
            self._add_tags()
        if codec.is_framed:
            self._add_empty_frame()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._muxer:
            if kind is None:
                if self.codec.is_framed:
                    self._add_empty_frame()
                self._muxer.mux(self._stream.encode(None))
        if self._tags:
            tag_writer.end(self._out, self.codec.container, self._tags if kind is None else NO_TAGS, self._file)

    def _add_tags(self) -> None:
        self._muxer.metadata.update(tag_writer.muxer_metadata(self.codec.container, self._tags))
        cover = self._tags.cover
        if self.codec.container != "flac" or cover is None:
            return
        size = {"width": cover.width, "height": cover.height}
        picture: Any = self._muxer.add_mux_stream(cover.codec, rate=1, **size)
        picture.time_base, picture.disposition = _COVER_UNIT, Disposition.attached_pic
        picture.metadata["comment"] = "Cover (front)"  # FFmpeg's name of the type
        packet = av.Packet(cover.content)
        packet.stream, packet.time_base, packet.pts, packet.dts = picture, _COVER_UNIT, 0, 0
        self._stream.codec_context.open(strict=False)
        self._muxer.mux(packet)

    def _add_empty_frame(self) -> None:
        self._stream.codec_context.open(strict=False)
        self.add(np.zeros((self._stream.codec_context.frame_size, self._channels), self.codec.dtype))

    def add(self, frames: np.ndarray) -> None:
        """Write the next samples: (samples, channels), as `raw` returns them."""
        planes = np.ascontiguousarray(frames.T) if self.codec.samples.endswith("p") else frames.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(planes, format=self.codec.samples, layout=self._layout)
        frame.sample_rate, frame.pts = self._rate_hz, self._position
        self._position += len(frames)
        self._muxer.mux(self._stream.encode(frame))


def encode(wave: np.ndarray, codec: Codec, *, rate_hz: int, bitrate: int | None = None, tags: Tags = NO_TAGS) -> bytes:
    """Encode a whole wave.

    Args:
        wave: (channels, samples) float32, one channel or two; clipped where the codec holds integers.
        codec: Codec to write with.
        rate_hz: Sample rate of the wave, one of the codec's.
        bitrate: Bits per second, for lossy codecs.
        tags: Tags of the file.
    """
    out = io.BytesIO()
    with open_encoder(out, codec, channels=len(wave), rate_hz=rate_hz, bitrate=bitrate, tags=tags) as encoder:
        for start in range(0, wave.shape[1], BLOCK):
            encoder.add(raw(wave[:, start : start + BLOCK], codec))
    return out.getvalue()
