"""ID3v2.4 tags, for MP3 and WAV: FFmpeg's own have comments and ISRCs in frames that few programs read. Source: id3.org."""

from __future__ import annotations

import os
import struct
from typing import IO

from sep_batch.pipeline.audio.pictures import FRONT_COVER
from sep_batch.pipeline.audio.tags import Tags

_FRAMES = {
    "album": "TALB",
    "album_artist": "TPE2",
    "artist": "TPE1",
    "composer": "TCOM",
    "copyright": "TCOP",
    "date": "TDRC",
    "disc": "TPOS",
    "genre": "TCON",
    "language": "TLAN",
    "performer": "TPE3",
    "publisher": "TPUB",
    "title": "TIT2",
    "track": "TRCK",
    "ISRC": "TSRC",
    "ALBUM-SORT": "TSOA",
    "ARTIST-SORT": "TSOP",
    "TITLE-SORT": "TSOT",
} | {name: name for name in ("TBPM", "TDOR", "TDRL", "TEXT", "TIT1", "TIT3", "TKEY", "TMED", "TMOO", "TOPE", "TPE4", "TSST")}
_LANGUAGE_FRAMES = {"comment": "COMM", "lyrics": "USLT"}
_UTF8, _NO_LANGUAGE = b"\3", b"XXX"
_RF64_SIZE_AT, _RIFF_SIZE_AT = 20, 4  # offsets of the file's size in its header


def tag(tags: Tags) -> bytes:
    """Return an ID3v2.4 tag."""
    frames = b"".join(_frame(name, value) for name, value in tags.values)
    if tags.cover is not None:
        kind = tags.cover.mime.encode() + b"\0" + bytes([FRONT_COVER]) + b"\0"
        frames += _framed("APIC", _UTF8 + kind + tags.cover.content)
    return b"ID3\4\0\0" + _syncsafe(len(frames)) + frames


def append_to_wav(file: IO[bytes], content: bytes) -> None:
    """Append a tag as the last chunk of a WAV or RF64 file.

    Args:
        file: The whole file, open to read and write.
        content: The tag, as `tag` returns it.
    """
    end = file.seek(0, os.SEEK_END)
    padding = bytes(len(content) % 2)
    file.write(b"id3 " + struct.pack("<I", len(content)) + content + padding)
    size = end + 8 + len(content) + len(padding) - 8
    file.seek(0)
    is_large = file.read(4) == b"RF64"
    file.seek(_RF64_SIZE_AT if is_large else _RIFF_SIZE_AT)
    file.write(struct.pack("<Q" if is_large else "<I", size))


def _frame(name: str, value: str) -> bytes:
    if name in _LANGUAGE_FRAMES:
        return _framed(_LANGUAGE_FRAMES[name], _UTF8 + _NO_LANGUAGE + b"\0" + value.encode())
    if name in _FRAMES:
        return _framed(_FRAMES[name], _UTF8 + value.encode())
    return _framed("TXXX", _UTF8 + name.encode() + b"\0" + value.encode())


def _framed(kind: str, body: bytes) -> bytes:
    return kind.encode() + _syncsafe(len(body)) + bytes(2) + body


def _syncsafe(size: int) -> bytes:
    """Return a size as four bytes of seven bits."""
    return bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
