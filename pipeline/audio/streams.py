"""Streams: which of a container's audio streams is read, and what its channels are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio.containers import DECODERS
from sep_batch.pipeline.audio.downmix import is_native

MAX_CHANNELS = 64  # FFmpeg's resampler takes no more
NAMELESS = ("tta",)  # codecs that hold a number of channels and no names: FFmpeg guesses 2.1 where there are three
_DEFAULT = 1  # FFmpeg's AV_DISPOSITION_DEFAULT


@dataclass(frozen=True)
class Chosen:
    """The audio stream that is read.

    Attributes:
        stream: PyAV's.
        number: Its number among the container's audio streams, from 0, as FFmpeg's `0:a:N` counts.
        streams: How many audio streams the container has; pictures and videos are none.
        channels: Number of channels, as the header says; 0 where the first frame will tell.
        names: FFmpeg's name of each channel; none where there are too many.
    """

    stream: Any
    number: int
    streams: int
    channels: int
    names: tuple[str, ...]


def choose(container: Any) -> Chosen:
    """Choose as FFmpeg does: the default stream, then the one with most channels, then the first; of those that are read.

    Raises:
        UnsupportedFormat: There is no audio stream, or none of a codec that is read.
    """
    streams, kind = container.streams.audio, container.format.name
    if not streams:
        raise errors.UnsupportedFormat(f"{kind}: no audio stream")
    codecs = [stream.codec_context and stream.codec_context.name for stream in streams]
    read = [
        Chosen(stream, number, len(streams), *taken_channels(stream.codec_context))
        for number, (stream, codec) in enumerate(zip(streams, codecs, strict=True))
        if codec in DECODERS
    ]
    if not read:
        raise errors.UnsupportedFormat(f"{kind}: a codec that is not read ({', '.join(dict.fromkeys(map(str, codecs)))})")
    return max(read, key=lambda chosen: (chosen.stream.disposition & _DEFAULT, chosen.channels, -chosen.number))


def taken_channels(codec: Any) -> tuple[int, tuple[str, ...]]:
    """Take number and names of the channels out of a codec context that is not open; leave a layout in it that owns no memory.

    PyAV 18.1 hands out a layout that shares the context's list of channels, where they come in an order of their own, and both
    free it (docs/upstream/pyav_layout.py). So the layout is asked for once, and the context is given another one at once, which
    frees nothing: the same one where a bit mask holds it, else one that is a number of channels only. Frames have it too then.
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
