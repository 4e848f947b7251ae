"""Vorbis comments, the tags of Ogg, Opus and FLAC, with the names that FFmpeg gives them."""

from __future__ import annotations

import base64
import struct

from sep_batch.pipeline.audio import pictures
from sep_batch.pipeline.audio.tags import Tags

COVER = "METADATA_BLOCK_PICTURE"
_NAMES = {"album_artist": "ALBUMARTIST", "comment": "DESCRIPTION", "disc": "DISCNUMBER", "track": "TRACKNUMBER"}


def with_cover(tags: Tags) -> dict[str, str]:
    """Return the tags with the cover as one of them, as Ogg holds it."""
    cover = {COVER: base64.b64encode(pictures.block(tags.cover)).decode()} if tags.cover else {}
    return dict(tags.values) | cover


def packet(tags: Tags) -> bytes:
    """Return the comment header of a Vorbis stream, without a vendor. Source: the Vorbis I specification, section 5."""
    comments = [f"{_NAMES.get(name, name.upper())}={value}".encode() for name, value in with_cover(tags).items()]
    body = b"".join(struct.pack("<I", len(comment)) + comment for comment in comments)
    return b"\x03vorbis" + bytes(4) + struct.pack("<I", len(comments)) + body + b"\1"
