"""Reading of a source's tags and cover with FFmpeg, in the decoder's child process; no picture is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import IO, Any

from av.stream import Disposition

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import containers, streams, tags
from sep_batch.pipeline.audio.containers import AudioFile
from sep_batch.pipeline.audio.pictures import picture

_MAX_PACKETS = 64  # FFmpeg returns pictures before the audio
_FRONT = "Cover (front)"


def read(source: IO[bytes]) -> tuple[list[tuple[str, str]], bytes, str]:
    """Read a file's tags.

    Args:
        source: Seekable, at its start.

    Returns:
        Names and values; the cover, or no bytes; a description of all that was left out, else empty.

    Raises:
        EmptyAudio, UnsupportedFormat, DecodeError, TooLong: As `containers.identify` and `containers.opened` raise them.
    """
    failure: errors.TrackError | None = None
    for file in _files(source):
        try:
            with containers.opened(file) as (container, watched):
                values, left_out = tags.cleaned(_metadata(container, file.name))
                cover, reason = _cover(container)
                watched.settle()
                front = f"those before the audio cannot be read: {failure}" if failure else ""
                return list(values), cover, tags.warning(left_out, cover=reason, front=front)
        except errors.DecodeError as error:
            failure = error
    raise failure or errors.DecodeError("no tags can be read")


def _files(source: IO[bytes]) -> Iterator[AudioFile]:
    """Yield the file with the tags before its audio, which the decoder skips and FFmpeg reads; then its audio alone."""
    file = containers.identify(source)
    if file.source is not source and file.name != "ogg":
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        yield AudioFile(file.name, source, size, file.head)
        file = containers.identify(source)
    yield file


def _metadata(container: Any, name: str) -> Iterator[tuple[str, str]]:
    if name == "ogg":  # its tags are the stream's
        yield from streams.choose(container).stream.metadata.items()
    yield from container.metadata.items()


def _cover(container: Any) -> tuple[bytes, str]:
    """Return the front cover, else the first picture, and the reason why it was left out."""
    covers = [stream for stream in container.streams if stream.disposition & Disposition.attached_pic]
    chosen = next((stream for stream in covers if stream.metadata.get("comment") == _FRONT), covers[0] if covers else None)
    if chosen is None:
        return b"", ""
    for packet, _ in zip(container.demux(), range(_MAX_PACKETS), strict=False):
        if packet.stream.index == chosen.index and packet.size:
            if packet.size > tags.MAX_COVER_BYTES:
                return b"", f"{packet.size:,} bytes, expected at most {tags.MAX_COVER_BYTES:,}"
            content = bytes(packet)
            return (content, "") if picture(content) else (b"", "neither JPEG nor PNG")
    return b"", "FFmpeg returns no picture"
