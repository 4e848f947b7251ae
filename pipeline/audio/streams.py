"""The choice of a container's audio stream, and the names of its channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio.containers import DECODERS
from sep_batch.pipeline.audio.downmix import is_native

MAX_CHANNELS = 64  # FFmpeg's resampler takes no more
NAMELESS = ("tta",)  # codecs that store a number of channels and no names: FFmpeg guesses 2.1 for three channels
_DEFAULT = 1  # FFmpeg's AV_DISPOSITION_DEFAULT


@dataclass(frozen=True)
class Chosen:
    """The audio stream that is read.

    Attributes:
        stream: The stream, as PyAV's object.
        number: Number among the container's audio streams, from 0, as FFmpeg's `0:a:N` counts.
        streams: Number of audio streams in the container, without pictures and videos.
        channels: Number of channels in the header; 0 where only the first frame has it.
        names: FFmpeg's name of each channel; empty where there are more than `MAX_CHANNELS`.
    """

    stream: Any
    number: int
    streams: int
    channels: int
    names: tuple[str, ...]


def choose(container: Any, number: int | None = None) -> Chosen:
    """Choose as FFmpeg does, among the supported streams: the default stream, then the one with most channels, then the first.

    Args:
        container: PyAV's container.
        number: Number of the audio stream to choose instead, from 0.

    Raises:
        UnsupportedFormat: There is no audio stream, none of a supported codec, or not the one of this number.
    """
    streams, kind = container.streams.audio, container.format.name
    if not streams:
        raise errors.UnsupportedFormat(f"{kind}: no audio stream")
    codecs = [stream.codec_context and stream.codec_context.name for stream in streams]
    readable = [
        Chosen(stream, number, len(streams), *taken_channels(stream.codec_context))
        for number, (stream, codec) in enumerate(zip(streams, codecs, strict=True))
        if codec in DECODERS
    ]
    if not readable:
        raise errors.UnsupportedFormat(f"{kind}: unsupported codec ({', '.join(dict.fromkeys(map(str, codecs)))})")
    if number is not None:
        chosen = next((chosen for chosen in readable if chosen.number == number), None)
        if chosen is None:
            raise errors.UnsupportedFormat(f"{kind}: no supported audio stream {number}; it has {len(streams)}, counted from 0")
        return chosen
    return max(readable, key=lambda chosen: (chosen.stream.disposition & _DEFAULT, chosen.channels, -chosen.number))


def taken_channels(codec: Any) -> tuple[int, tuple[str, ...]]:
    """Return number and names of the channels of a codec context that is not open; leave a layout in it that owns no memory.

    For a custom order of channels, PyAV 18.1 returns a layout that shares the context's list of channels, and both free it
    (docs/upstream/pyav_layout.py). So the layout is read once, and the context gets at once another one that frees nothing: the
    same one where it is a bit mask, else only a number of channels. Frames then have it too.
    """
    layout = codec.layout
    channels: int = layout.nb_channels
    if channels <= 0:
        return channels, ()
    codec.layout = f"{channels}C"
    names = tuple(channel.name for channel in layout.channels) if channels <= MAX_CHANNELS else ()
    if is_native(names):
        codec.layout = "+".join(names)
    return channels, names
