"""The beginning of the audio in a file: behind tags, an HTTP header and padding, or behind a cut frame.

Tags are skipped by their own lengths, so a picture of 100 MB is never read. Where no container's signature follows them, a
bounded piece is searched for consecutive frames. A piece that begins like an archive, an image or a film is not searched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import frames
from sep_batch.pipeline.audio.view import read_at

HEAD_BYTES = 4096
MAX_LAYERS = 64  # tags, headers and runs of padding before the audio
MAX_PADDING_BYTES = 1 << 20
MAX_HTTP_BYTES = 16 << 10
_PIECE_BYTES = 128 << 10  # searched for frames
_MAX_JUNK_BYTES = 8 << 10  # before the first whole frame: the rest of a cut frame; an ADTS frame has at most 8,191 bytes
_MAX_LOST_BYTES = 64 << 10  # before the first whole frame behind a tag whose length is wrong
_MAX_BOXES = 64

_TAILS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", bytes(16))  # may follow the last frame of a short file
_PADDING = b"\0\t\n\r "
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SIGNS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda b: b[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX") and b[8:12] == b"WAVE", "wav"),
    (lambda b: b[:4] == b"FORM" and b[8:12] in (b"AIFF", b"AIFC"), "aiff"),
    (lambda b: b[:4] == b"fLaC", "flac"),
    (lambda b: b[:4] == b"OggS", "ogg"),
    (lambda b: b[4:8] == b"ftyp", "mov"),
    (lambda b: b[:4] == b"\x1aE\xdf\xa3", "matroska"),
    (lambda b: b[:4] == b"\x30\x26\xb2\x75", "asf"),
    (lambda b: b[:4] == b"caff", "caf"),
    (lambda b: b[:4] == b".snd", "au"),
    (lambda b: b[:4] == b"wvpk", "wv"),
    (lambda b: b[:4] == b"MAC ", "ape"),
    (lambda b: b[:4] == b"TTA1", "tta"),
)
_SIGN_BEHIND_TAG = re.compile(
    rb"fLaC\0\0\0\x22|OggS\0\x02|(?:RIFF|RF64|BW64|RIFX)....WAVE|FORM....AIF[FC]|TTA1|wvpk|MAC ", re.DOTALL
)
_FIRST_BOXES = (b"wide", b"free", b"skip", b"mdat", b"moov", b"pnot")
_BOXES = (*_FIRST_BOXES, b"ftyp", b"udta", b"uuid", b"junk", b"PICT", b"pict", b"prfl", b"meta")
_FOREIGN = re.compile(  # files that may hold a stream of frames, but are not audio files
    rb"PK[\x03\x05]|\x7fELF|MZ|%PDF|\x89PNG|\xff\xd8\xff|GIF8|II\*\0|MM\0\*|\x1f\x8b|BZh|7z\xbc\xaf|Rar!|\xfd7zXZ|"
    rb"\x28\xb5\x2f\xfd|SQLite|RIFF|FORM|\x00\x00\x01[\xb0-\xbf]|G.{187}G|FLV|MThd|\xd0\xcf\x11\xe0|.{257}ustar",
    re.DOTALL,
)


@dataclass(frozen=True)
class Beginning:
    """The beginning of the audio in a file.

    Attributes:
        demuxer: FFmpeg's demuxer for the audio; None where no supported audio was found.
        start: Offset of the audio's first byte; without audio, of the first byte behind the skipped ones.
        is_tagged: Tags of audio files were skipped.
        sync: Demuxer of the raw stream that the first two bytes suggest, where no frames confirm it.
    """

    demuxer: str | None
    start: int
    is_tagged: bool = False
    sync: str = ""


def find(source: IO[bytes], size: int) -> Beginning:
    """Find the audio in a file of `size` bytes.

    Raises:
        UnsupportedFormat: The file is an HTTP response with a chunked body.
    """
    start, is_tagged, is_padded = 0, False, False
    for _ in range(MAX_LAYERS):
        head = read_at(source, start, HEAD_BYTES)
        demuxer = _sign(head) or ("mov" if _is_quicktime(source, start, size) else None)
        if demuxer is not None:
            return Beginning(demuxer, start, is_tagged)
        tag, header = _tag_bytes(head), _http_bytes(source, start, head)
        padding = 0 if tag or header or _FOREIGN.match(head) else _padding_bytes(source, start, head)
        if not tag + header + padding:
            break
        start, is_tagged, is_padded = start + tag + header + padding, is_tagged or tag > 0, is_padded or padding > 0
        for back in (4, 3, 2, 1) if padding else ():  # the size of a QuickTime's first box may look like padding: 00 00 00 20
            if start >= back and (_sign(read_at(source, start - back, 8)) or _is_quicktime(source, start - back, size)):
                return Beginning("mov", start - back, is_tagged)
    return _search(source, min(start, size), size, is_tagged=is_tagged, is_padded=is_padded)


def _search(source: IO[bytes], start: int, size: int, *, is_tagged: bool, is_padded: bool) -> Beginning:
    """Search a piece of the file for consecutive frames, and behind a tag also for the signature of a container."""
    piece = read_at(source, start, _PIECE_BYTES)
    run_at_start = frames.run_at(piece, 0, most=frames.MIN_FRAMES - 1)
    if run_at_start.frames == frames.MIN_FRAMES - 1:
        return Beginning(run_at_start.demuxer, start, is_tagged)
    is_followed_by_tag = run_at_start.frames > 0 and piece.startswith(_TAILS, run_at_start.stop)
    is_all = run_at_start.reaches_end and start + len(piece) == size
    if run_at_start.demuxer and (is_all or is_followed_by_tag) and (is_tagged or not is_padded):
        return Beginning(run_at_start.demuxer, start, is_tagged)
    if not _FOREIGN.match(piece):
        sign = _SIGN_BEHIND_TAG.search(piece, 0, _MAX_LOST_BYTES) if is_tagged else None
        last = sign.start() if sign else _MAX_LOST_BYTES if is_tagged or run_at_start.frames else _MAX_JUNK_BYTES
        run = frames.first_run(piece, 1, last)
        if run and (run.start <= _MAX_JUNK_BYTES or is_tagged or run.demuxer == run_at_start.demuxer):
            return Beginning(run.demuxer, start + (0 if run.demuxer == run_at_start.demuxer else run.start), is_tagged)
        if sign:
            return Beginning(_sign(piece[sign.start() :]), start + sign.start(), is_tagged)
    return Beginning(None, start, is_tagged, frames.sync_of(piece))


def _sign(head: bytes) -> str | None:
    return next((name for holds, name in _SIGNS if holds(head)), None)


def _tag_bytes(head: bytes) -> int:
    """Return the length of the ID3v2 or APEv2 tag at the start of these bytes; 0 where there is none."""
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128 and 255 not in head[3:5]:
        has_footer = head[3] >= 4 and head[5] & 0x10
        return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + (10 if has_footer else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        return 32 + int.from_bytes(head[12:16], "little")  # without the header itself
    return 0


def _http_bytes(source: IO[bytes], start: int, head: bytes) -> int:
    """Return the length of the HTTP response header at `start`; 0 where there is none."""
    if not re.match(rb"HTTP/\d|ICY \d", head):
        return 0
    header = re.match(rb".*?\r?\n\r?\n", read_at(source, start, MAX_HTTP_BYTES), re.DOTALL)
    if header and re.search(rb"\ntransfer-encoding:\s*chunked", header[0], re.IGNORECASE):
        raise errors.UnsupportedFormat("HTTP response with a chunked body; save only the decoded body")
    return header.end() if header else 0


def _padding_bytes(source: IO[bytes], start: int, head: bytes) -> int:
    """Return the number of zeros and blanks at `start`; 0 where they are more than `MAX_PADDING_BYTES`."""
    length = 3 if head.startswith(_BYTE_ORDER_MARK) else 0
    block = head[length:]
    while length < MAX_PADDING_BYTES and block:
        audio = block.lstrip(_PADDING)
        length += len(block) - len(audio)
        if audio:
            return length
        block = read_at(source, start + length, 64 << 10)
    return length if length < MAX_PADDING_BYTES else 0


def _is_quicktime(source: IO[bytes], start: int, size: int) -> bool:
    """Tell whether QuickTime boxes without a leading `ftyp` begin at `start`, one behind the other up to moov, ftyp or mdat."""
    for number in range(_MAX_BOXES):
        head = read_at(source, start, 16)
        kind, length = head[4:8], int.from_bytes(head[:4], "big")
        if kind not in (_BOXES if number else _FIRST_BOXES):
            return False
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        fits = 8 <= length <= size - start
        if kind in (b"moov", b"ftyp") or (kind == b"mdat" and not fits):
            return fits or length == 0 or kind == b"mdat"
        if not fits:
            return False
        start += length
    return False
