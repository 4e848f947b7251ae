"""Tags of M4A, as iTunes writes them: FFmpeg's have no free names and no cover. Source: the QuickTime file format, `udta`."""

from __future__ import annotations

import os
import re
import struct
from typing import IO

from sep_batch.pipeline.audio.tags import Tags

_ITEMS = {
    "album": b"\xa9alb",
    "album_artist": b"aART",
    "artist": b"\xa9ART",
    "comment": b"\xa9cmt",
    "composer": b"\xa9wrt",
    "copyright": b"cprt",
    "date": b"\xa9day",
    "genre": b"\xa9gen",
    "lyrics": b"\xa9lyr",
    "title": b"\xa9nam",
}
_NUMBERS = {"track": b"trkn", "disc": b"disk"}
_NUMBER = re.compile(r"([0-9]{1,4})(?:/([0-9]{1,4}))?")
_HEADER_BYTES = 8
_TEXT, _JPEG, _PNG = 1, 13, 14  # types of a value


def append(file: IO[bytes], tags: Tags) -> None:
    """Replace FFmpeg's empty `udta`, the last box of `moov` and of the file, so that no offset in the file changes.

    Args:
        file: The whole file, open to read and write.
        tags: The tags.
    """
    end = file.seek(0, os.SEEK_END)
    movie, movie_kind = _last_box(file, 0, end)
    start, kind = _last_box(file, movie + _HEADER_BYTES, end)
    if (movie_kind, kind) != (b"moov", b"udta"):
        raise ValueError(f"the file ends with boxes {movie_kind!r}, {kind!r}, expected moov, udta")
    file.seek(start)
    file.write(content := _user_data(tags))
    file.truncate()
    file.seek(movie)
    file.write(struct.pack(">I", start + len(content) - movie))


def _last_box(file: IO[bytes], start: int, end: int) -> tuple[int, bytes]:
    """Return offset and kind of the last box between two offsets."""
    while True:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(_HEADER_BYTES))
        size = int.from_bytes(file.read(8), "big") if size == 1 else size
        if size < _HEADER_BYTES or start + size >= end:
            return start, kind
        start += size


def _user_data(tags: Tags) -> bytes:
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    items = b"".join(_item(name, value) for name, value in tags.values)
    if tags.cover is not None:
        items += _box(b"covr", _data(_PNG if tags.cover.codec == "png" else _JPEG, tags.cover.content))
    return _box(b"udta", _box(b"meta", bytes(4) + handler + _box(b"ilst", items)))


def _item(name: str, value: str) -> bytes:
    if name in _ITEMS:
        return _box(_ITEMS[name], _data(_TEXT, value.encode()))
    number = _NUMBER.fullmatch(value)
    if name in _NUMBERS and number:
        content = struct.pack(">4H", 0, int(number[1]), int(number[2] or 0), 0)
        return _box(_NUMBERS[name], _data(0, content if name == "track" else content[:6]))
    owner, own = _box(b"mean", bytes(4) + b"com.apple.iTunes"), _box(b"name", bytes(4) + name.encode())
    return _box(b"----", owner + own + _data(_TEXT, value.encode()))


def _data(kind: int, content: bytes) -> bytes:
    return _box(b"data", struct.pack(">II", kind, 0) + content)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content
