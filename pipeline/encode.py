"""Encode: a wave becomes a file, bit-exact: same samples, same bytes."""

from __future__ import annotations

import io
from types import TracebackType
from typing import IO, Any, Self

import av
import numpy as np

from sep_batch.pipeline.codecs import BLOCK, Codec, raw

_RIFF_BYTES = (1 << 32) - 1024  # of samples; more do not fit beside the headers of a plain WAV


class Encoder:
    """Writes one wave bit-exact, a block at a time: same samples, same bytes, however they are cut into blocks."""

    def __init__(
        self, out: IO[bytes] | str, codec: Codec, *, channels: int, rate_hz: int, bitrate: int | None = None, samples: int = 0
    ) -> None:
        """Begin a file.

        Args:
            out: A seekable file, or a path.
            codec: How to write it.
            channels: One or two.
            rate_hz: The wave's sampling rate.
            bitrate: Bits per second, for lossy codecs.
            samples: How many will come, where it may be more than a WAV of 4 GiB holds; that is written as RF64.
        """
        self.codec, self._rate_hz, self._channels, self._place = codec, rate_hz, channels, 0
        options = {"fflags": "+bitexact"}
        if codec.container == "wav" and samples * channels * codec.bytes_a_value >= _RIFF_BYTES:
            options["rf64"] = "always"
        self._layout = "stereo" if channels == 2 else "mono"
        self._muxer = av.open(out, "w", format=codec.container, options=options)
        stream: Any = self._muxer.add_stream(codec.encoder, rate=rate_hz, options={"flags": "+bitexact"}, layout=self._layout)
        stream.format = codec.samples
        if bitrate:
            stream.bit_rate = bitrate
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._muxer:
            if kind is None:
                self._muxer.mux(self._stream.encode(None))

    def add(self, frames: np.ndarray) -> None:
        """Write the next samples: (samples, channels), as `raw` gives them."""
        planes = np.ascontiguousarray(frames.T) if self.codec.samples.endswith("p") else frames.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(planes, format=self.codec.samples, layout=self._layout)
        frame.sample_rate, frame.pts = self._rate_hz, self._place
        self._place += len(frames)
        self._muxer.mux(self._stream.encode(frame))


def encode(wave: np.ndarray, codec: Codec, *, rate_hz: int, bitrate: int | None = None) -> bytes:
    """Encode a whole wave.

    Args:
        wave: (channels, samples) float32, one channel or two; clipped where the codec holds integers.
        codec: How to write it.
        rate_hz: Its sampling rate.
        bitrate: Bits per second, for lossy codecs.
    """
    out = io.BytesIO()
    with Encoder(out, codec, channels=len(wave), rate_hz=rate_hz, bitrate=bitrate) as encoder:
        for start in range(0, wave.shape[1], BLOCK):
            encoder.add(raw(wave[:, start : start + BLOCK], codec))
    return out.getvalue()
