"""Tags of a file that is encoded: which ones FFmpeg writes, and those before and behind its own bytes, which are written here."""

from __future__ import annotations

import io
import os
from typing import IO, Any, cast

from sep_batch.pipeline.audio import id3, mp4_tags, vorbis_comments
from sep_batch.pipeline.audio.tags import Tags

_IN_RIFF = ("album", "artist", "comment", "copyright", "date", "genre", "language", "title", "track")
WITHOUT_COVER = ("asf",)  # FFmpeg writes no picture there
_IN_ASF = {"date": "WM/Year", "ISRC": "WM/ISRC"}


def muxer_options(container: str) -> dict[str, str]:
    """Return FFmpeg's options for a tagged file."""
    return {"id3v2_version": "0"} if container == "mp3" else {}


def muxer_metadata(container: str, tags: Tags) -> dict[str, str]:
    """Return the tags that FFmpeg writes, by its names."""
    if container == "ogg":
        return vorbis_comments.with_cover(tags)
    if container == "wav":
        return {name: value for name, value in tags.values if name in _IN_RIFF}
    if container == "asf":
        return {_IN_ASF.get(name, name): value for name, value in tags.values}
    return dict(tags.values) if container == "flac" else {}


def reserved_bytes(container: str, tags: Tags) -> int:
    """Return the most bytes of the tags in a WAV: those of the ID3 tag, and fewer in RIFF's own chunk."""
    return 2 * len(id3.tag(tags)) if container == "wav" and tags else 0


def begin(out: IO[bytes] | str, container: str, tags: Tags) -> IO[bytes] | str:
    """Write the tag before the audio, where there is one, and return the file that FFmpeg writes to."""
    if container != "mp3":
        return out
    file = open(out, "wb") if isinstance(out, str) else out  # noqa: SIM115 (closed by `end`)
    file.write(id3.tag(tags))
    return cast("IO[bytes]", _Rest(file))


def end(out: IO[bytes] | str, container: str, tags: Tags, written: Any) -> None:
    """Write the tags behind the audio.

    Args:
        out: The encoded file, or its path.
        container: FFmpeg's name of the muxer.
        tags: The tags; none where encoding failed.
        written: The file that `begin` returned.
    """
    if isinstance(written, _Rest) and isinstance(out, str):
        written.file.close()
    if container not in ("wav", "ipod") or not tags:
        return
    file = open(out, "r+b") if isinstance(out, str) else out  # noqa: SIM115 (closed below)
    try:
        if container == "wav":
            id3.append_to_wav(file, id3.tag(tags))
        else:
            mp4_tags.append(file, tags)
    finally:
        if isinstance(out, str):
            file.close()


class _Rest(io.RawIOBase):
    """A file from its present position on, as a file of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self.file, self._start = file, file.tell()

    def write(self, content: Any, /) -> int:
        return self.file.write(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self.file.seek(offset + (self._start if whence == os.SEEK_SET else 0), whence) - self._start

    def tell(self) -> int:
        return self.file.tell() - self._start

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True
