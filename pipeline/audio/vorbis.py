"""Encoding to Ogg Vorbis with libsndfile, since PyAV's wheel has no libvorbis. soundfile is imported in this file only.

libsndfile draws a random serial number and writes its own name; both are removed page by page, so that the same samples give the
same bytes.
"""

from __future__ import annotations

import io
import zlib
from types import TracebackType
from typing import IO, Self

import numpy as np
import soundfile

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import vorbis_comments
from sep_batch.pipeline.audio.codecs import DEFAULT_BITRATE
from sep_batch.pipeline.audio.tags import NO_TAGS, Tags

_BLOCK = 4096  # samples written at once: always the same, since the bytes depend on it; libsndfile crashes on very large blocks
_KBITS = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)  # of stereo at 44.1 kHz, by libvorbis's quality of 0 to 10
_COMMENT_SIGN = b"\x03vorbis"
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_HEADER_BYTES = 27
_MAX_LACING = 255  # lacing values of a page
_NO_GRANULE = b"\xff" * 8  # of a page on which no packet ends
_CONTINUED = 1


class VorbisEncoder:
    """Writes one wave as Ogg Vorbis, with the interface of `encoding.Encoder`."""

    def __init__(self, out: IO[bytes] | str, *, channels: int, rate_hz: int, bitrate: int | None, tags: Tags = NO_TAGS) -> None:
        self._path, self._pages = out if isinstance(out, str) else None, _Pages()
        self._plain = PlainPages(tags)
        self._out = open(out, "wb") if isinstance(out, str) else out  # noqa: SIM115 (closed at the end)
        quality = np.interp((bitrate or DEFAULT_BITRATE) * 2 / channels / 1000, _KBITS, np.linspace(0, 1, len(_KBITS)))
        self._rest = np.empty((0, channels), np.float32)
        form = {"format": "OGG", "subtype": "VORBIS", "compression_level": 1 - float(quality)}
        self._sound = soundfile.SoundFile(self._pages, "w", samplerate=rate_hz, channels=channels, **form)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._sound.write(self._rest)
            self._sound.close()
            if kind is None:
                self._put_out()
        finally:
            if self._path:
                self._out.close()

    def add(self, frames: np.ndarray) -> None:
        """Write the next samples: (samples, channels) float32."""
        frames = np.concatenate([self._rest, frames])
        whole = len(frames) // _BLOCK * _BLOCK
        for begin in range(0, whole, _BLOCK):
            self._sound.write(frames[begin : begin + _BLOCK])
        self._rest = frames[whole:]
        self._put_out()

    def _put_out(self) -> None:
        for page in self._pages.whole():
            self._out.write(self._plain.of(page))


def length(source: IO[bytes]) -> tuple[int, int]:
    """Decode a file, and return its samples per channel and its sample rate; FFmpeg gets the length of short files wrong.

    Raises:
        DecodeError: The file cannot be decoded.
    """
    try:
        with soundfile.SoundFile(source) as sound:
            return sum(len(block) for block in sound.blocks(_BLOCK)), sound.samplerate
    except soundfile.SoundFileError as error:
        raise errors.DecodeError(f"ogg: {error}") from error


class _Pages(io.RawIOBase):
    """A file for libsndfile to write to. It only keeps the bytes: an exception could not pass through libsndfile."""

    def __init__(self) -> None:
        self._kept, self._position = bytearray(), 0

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self._kept += content
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._position

    def whole(self) -> list[bytes]:
        """Return the pages that are complete, and keep the rest."""
        pages = []
        while len(self._kept) >= _HEADER_BYTES and len(self._kept) >= (size := self._page_bytes()):
            pages.append(bytes(self._kept[:size]))
            del self._kept[:size]
        return pages

    def _page_bytes(self) -> int:
        lacing = self._kept[_HEADER_BYTES : _HEADER_BYTES + self._kept[26]]
        return _HEADER_BYTES + self._kept[26] + sum(lacing)


class PlainPages:
    """Makes pages reproducible: the serial number is 0, and the Vorbis comments are those of this program.

    Source: RFC 3533 (pages), the Vorbis I specification (comments).
    """

    def __init__(self, tags: Tags = NO_TAGS) -> None:
        self._comment, self._added = vorbis_comments.packet(tags), 0

    def of(self, page: bytes) -> bytes:
        """Return the next page; comments that exceed it become further pages, so that later ones have other numbers."""
        lacing, body = page[_HEADER_BYTES : _HEADER_BYTES + page[26]], page[_HEADER_BYTES + page[26] :]
        if body.startswith(_COMMENT_SIGN):
            ends = next(index for index, size in enumerate(lacing) if size < 255) + 1
            whole, rest = divmod(len(self._comment), 255)
            body = self._comment + body[sum(lacing[:ends]) :]
            lacing = b"\xff" * whole + bytes([rest]) + lacing[ends:]
        first, pages = self._added, list[bytes]()
        while not pages or lacing:
            own, lacing = lacing[:_MAX_LACING], lacing[_MAX_LACING:]
            is_continued = bool(pages) and pages[-1][_HEADER_BYTES + _MAX_LACING - 1] == _MAX_LACING
            flags = bytes([_CONTINUED * is_continued]) if pages else page[5:6]
            granule = page[6:14] if min(own, default=0) < _MAX_LACING else _NO_GRANULE
            number = int.from_bytes(page[18:22], "little") + first + len(pages)
            pages.append(_page(page[:5] + flags + granule + bytes(4) + number.to_bytes(4, "little"), own, body[: sum(own)]))
            body = body[sum(own) :]
        self._added += len(pages) - 1
        return b"".join(pages)


def _page(head: bytes, lacing: bytes, body: bytes) -> bytes:
    rest = bytes([len(lacing)]) + lacing + body
    return head + _checksum(head + bytes(4) + rest) + rest


def _checksum(page: bytes) -> bytes:
    """Return Ogg's CRC-32: zlib's polynomial with reversed bits, from 0, and no complement."""
    reversed_crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return reversed_crc.to_bytes(4, "big").translate(_REVERSED)
