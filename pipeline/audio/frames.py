"""Frame headers of raw streams (MPEG audio, ADTS, AC-3, E-AC-3): the length of a frame, and the number of consecutive frames.

One header is a few bytes that any file may hold. Several of them, each at the end of the frame before, are a stream.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import NamedTuple

MIN_FRAMES = 4  # consecutive frames that make a stream at any offset
_HEADER_BYTES = 8  # the longest header that is read
_SYNC = re.compile(rb"\xff(?=[\xe0-\xff])|\x0b\x77")  # two may overlap: FF FF FB

_KBPS_1 = (
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),  # MPEG 1, layer I
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_KBPS_2 = (
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),  # MPEG 2 and 2.5, layer I
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # layers II and III
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_MPEG_HZ = (44_100, 48_000, 32_000)  # of MPEG 1; half of it in MPEG 2, a quarter in MPEG 2.5
_AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


class Frame(NamedTuple):
    """A frame's header.

    Attributes:
        demuxer: FFmpeg's demuxer for a stream of such frames.
        bytes: Length of the frame with its header.
        form: Fields that are equal in all frames of a stream.
    """

    demuxer: str
    bytes: int
    form: Hashable


class Run(NamedTuple):
    """Consecutive frames.

    Attributes:
        demuxer: FFmpeg's demuxer for the frames; empty where there is none.
        start: Offset of the first frame.
        frames: Number of frames.
        reaches_end: The last frame ends at or behind the end of the bytes.
        stop: End of the last frame.
        last_bytes: Length of the last frame.
    """

    demuxer: str
    start: int
    frames: int
    reaches_end: bool
    stop: int
    last_bytes: int = 0


def run_at(content: bytes, start: int, most: int | None = None) -> Run:
    """Follow the frames from an offset on; an incomplete header at the end counts as none.

    Args:
        content: Bytes of a stream.
        start: Offset of the first frame.
        most: Number of frames to stop after; None follows them to the end.
    """
    frames, position, first, size = 0, start, None, 0
    while position + _HEADER_BYTES <= len(content):
        frame = _frame(content, position)
        if frame is None or (first is not None and frame.form != first.form) or frames == most:
            return Run(first.demuxer if first else "", start, frames, reaches_end=False, stop=position, last_bytes=size)
        first = first or frame
        frames, position, size = frames + 1, position + frame.bytes, frame.bytes
    demuxer = first.demuxer if first else sync_of(content[start : start + 2])
    return Run(demuxer, start, frames, reaches_end=True, stop=position, last_bytes=size)


def first_run(content: bytes, start: int, last: int) -> Run | None:
    """Find the first `MIN_FRAMES` consecutive frames that begin between two offsets."""
    for match in _SYNC.finditer(content, start, min(last + 2, len(content))):
        run = run_at(content, match.start())
        if run.frames >= MIN_FRAMES:
            return run
    return None


def sync_of(content: bytes) -> str:
    """Return the demuxer of the raw stream that may begin with these two bytes; empty where none does."""
    if content[:2] == b"\x0b\x77":
        return "ac3"
    if content[:1] == b"\xff" and len(content) > 1 and content[1] & 0xE0 == 0xE0:
        return "aac" if content[1] & 0xF6 == 0xF0 else "mp3"
    return ""


def _frame(content: bytes, position: int) -> Frame | None:
    header = content[position : position + _HEADER_BYTES]
    demuxer = sync_of(header)
    return {"ac3": _ac3, "aac": _adts, "mp3": _mpeg}[demuxer](header) if demuxer else None


def _mpeg(header: bytes) -> Frame | None:
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)  # version: 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5
    bitrate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    bits_s = 1000 * (_KBPS_1 if version == 3 else _KBPS_2)[layer - 1][bitrate - 1]
    rate_hz = _MPEG_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    if layer == 1:
        size = (12 * bits_s // rate_hz + padding) * 4
    else:
        size = (72 if layer == 3 and version != 3 else 144) * bits_s // rate_hz + padding
    return Frame("mp3", size, (version, layer, rate))


def _adts(header: bytes) -> Frame | None:
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    if header[2] >> 2 & 15 > 12 or size < 8:
        return None
    return Frame("aac", size, (header[1], header[2] & 0xFD, header[3] & 0xC0))


def _ac3(header: bytes) -> Frame | None:
    version, rate = header[5] >> 3, header[4] >> 6
    if 11 <= version <= 16:
        if header[2] >> 6 == 3 or header[4] >> 4 == 15:
            return None
        return Frame("ac3", 2 * ((header[2] & 7) << 8 | header[3]) + 2, rate)
    code = header[4] & 63
    if version > 10 or rate == 3 or code >= 2 * len(_AC3_KBPS):
        return None
    kbps = _AC3_KBPS[code // 2]
    size = (4 * kbps, 2 * (320 * kbps // 147 + code % 2), 6 * kbps)[rate]
    return Frame("ac3", size, rate)
