"""Cover pictures: JPEG and PNG, known by their first bytes. No picture is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

FRONT_COVER = 3  # type of a picture in FLAC and ID3
_PNG = b"\x89PNG\r\n\x1a\n"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of JPEG that a size follows
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_MAX_MARKERS = 1_000


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        content: The file.
        codec: FFmpeg's name of its codec: png, or mjpeg.
        width: Width in pixels.
        height: Height in pixels.
    """

    content: bytes
    codec: str
    width: int
    height: int

    @property
    def mime(self) -> str:
        """MIME type."""
        return "image/png" if self.codec == "png" else "image/jpeg"


def picture(content: bytes) -> Picture | None:
    """Return a file as a picture; None where it is neither JPEG nor PNG, or has no size."""
    if content.startswith(_PNG) and content[12:16] == b"IHDR" and len(content) >= 33:
        codec, (width, height) = "png", struct.unpack(">II", content[16:24])
    elif content.startswith(b"\xff\xd8\xff"):
        codec, (width, height) = "mjpeg", _jpeg_size(content)
    else:
        return None
    return Picture(content, codec, width, height) if 0 < width < 1 << 16 and 0 < height < 1 << 16 else None


def block(cover: Picture) -> bytes:
    """Return the content of FLAC's PICTURE block, which Ogg holds as base64. Source: RFC 9639, section 8.8."""
    mime = cover.mime.encode()
    head = struct.pack(">II", FRONT_COVER, len(mime)) + mime
    return head + struct.pack(">6I", 0, cover.width, cover.height, 24, 0, len(cover.content)) + cover.content


def _jpeg_size(content: bytes) -> tuple[int, int]:
    """Return width and height from the header of the first frame; zeros where there is none."""
    position = 2
    for _ in range(_MAX_MARKERS):
        while content[position : position + 2] == b"\xff\xff":  # fill bytes
            position += 1
        if len(content) < position + 9 or content[position] != 0xFF:
            break
        marker = content[position + 1]
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, position + 5)
            return width, height
        position += 2 if marker in _BARE else 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return 0, 0
