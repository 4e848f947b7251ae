"""Bit-exact encoding of a wave to a file: same samples, same bytes. FFmpeg's encoders, and the choice of an encoder."""

from __future__ import annotations

import io
from types import TracebackType
from typing import IO, Any, Self

import av
import numpy as np

from sep_batch.pipeline.audio.codecs import BLOCK, Codec, raw
from sep_batch.pipeline.audio.vorbis import VorbisEncoder

_RIFF_BYTES = (1 << 32) - 1024  # most bytes of samples that fit beside the headers of a plain WAV


def open_encoder(
    out: IO[bytes] | str, codec: Codec, *, channels: int, rate_hz: int, bitrate: int | None = None, samples: int = 0
) -> Encoder | VorbisEncoder:
    """Begin a file.

    Args:
        out: A seekable file, or a path.
        codec: Codec to write with.
        channels: Number of channels, 1 or 2.
        rate_hz: Sample rate of the wave, one of the codec's.
        bitrate: Bits per second, for lossy codecs.
        samples: Samples per channel to come; a WAV that would exceed 4 GiB is written as RF64.
    """
    if codec.encoder == "vorbis":
        return VorbisEncoder(out, channels=channels, rate_hz=rate_hz, bitrate=bitrate)
    return Encoder(out, codec, channels=channels, rate_hz=rate_hz, bitrate=bitrate, samples=samples)


class Encoder:
    """Writes one wave bit-exact, block by block: same samples, same bytes, for any cut into blocks."""

    def __init__(
        self, out: IO[bytes] | str, codec: Codec, *, channels: int, rate_hz: int, bitrate: int | None, samples: int
    ) -> None:
        self.codec, self._rate_hz, self._channels, self._position = codec, rate_hz, channels, 0
        options = {"fflags": "+bitexact"}
        if codec.container == "wav" and samples * channels * codec.bytes_a_value >= _RIFF_BYTES:
            options["rf64"] = "always"
        if codec.container == "ipod":
            options["movie_timescale"] = str(rate_hz)  # else the duration is stored in milliseconds
        self._layout = "stereo" if channels == 2 else "mono"
        self._muxer = av.open(out, "w", format=codec.container, options=options)
        stream: Any = self._muxer.add_stream(codec.encoder, rate=rate_hz, options={"flags": "+bitexact"}, layout=self._layout)
        stream.format = codec.samples
        if bitrate:
            stream.bit_rate = bitrate
        self._stream = stream
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


def encode(wave: np.ndarray, codec: Codec, *, rate_hz: int, bitrate: int | None = None) -> bytes:
    """Encode a whole wave.

    Args:
        wave: (channels, samples) float32, one channel or two; clipped where the codec holds integers.
        codec: Codec to write with.
        rate_hz: Sample rate of the wave, one of the codec's.
        bitrate: Bits per second, for lossy codecs.
    """
    out = io.BytesIO()
    with open_encoder(out, codec, channels=len(wave), rate_hz=rate_hz, bitrate=bitrate) as encoder:
        for start in range(0, wave.shape[1], BLOCK):
            encoder.add(raw(wave[:, start : start + BLOCK], codec))
    return out.getvalue()
