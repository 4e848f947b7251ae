"""The bytes of a file that hold audio, without the tags and headers before them and the tags and zeros behind them.

For raw streams only (`RAW`): their frames follow one another, so that the sizes of the packets add up to the audio's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import IO

from sep_batch.pipeline.audio import frames
from sep_batch.pipeline.audio.containers import AudioFile
from sep_batch.pipeline.audio.headers import LONG_WAVS, declares_size
from sep_batch.pipeline.audio.view import read_at, view

RAW = ("aac", "ac3", "flac", "mp3", "ogg", "tta", "wv")  # FFmpeg's names of the demuxers
_NEAR_BYTES = 4096  # most bytes between the metadata and the first packet: a Xing frame, a seek table
_ID3V1_BYTES = 128
_MAX_STEPS = 10_000  # metadata blocks, pages of headers, blocks of a WAV, tags
_ZEROS_AT_ONCE, _MAX_ZEROS = 1 << 16, 16 << 20
_FEWEST_ZEROS = 64  # fewer are no padding
_MANY_ZEROS = 1 << 16  # more than a frame may end with
_FRAMED = ("aac", "ac3", "mp3")  # each frame's header holds its length
_TAIL_BYTES = 32 << 10  # searched at the end of `_FRAMED` streams; several of the longest frames
_KEPT_ZEROS = {"ac3": 2, "flac": 2, "tta": 4}  # bytes of the checksum that ends a frame
_MPEG1_HZ = 32_000  # and above: frames of 1,152 samples
_XING_AT, _VBRI_AT = (36, 21, 13), 36  # after the beginning of a frame: stereo, mono, mono of the lower rates
_ASF_PROPERTIES, _ASF_HEAD_BYTES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 1 << 16


@dataclass(frozen=True)
class Front:
    """Facts from the first bytes of a file, read before FFmpeg opens it.

    Attributes:
        begin: End of a FLAC file's metadata; None for other files, where FFmpeg returns all bytes behind the headers.
        mp3_frames: Frames that an MP3's Xing, Info or VBRI frame declares; 0 where there is none.
        asf_s: Duration that a WMA declares, in seconds, which FFmpeg ignores in a cut file; None where it declares none.
        wav_share: Share of its samples that a WAV still has, where both of its sizes exceed the file; else 1.
    """

    begin: int | None = None
    mp3_frames: int = 0
    asf_s: float | None = None
    wav_share: float = 1.0

    def mp3_s(self, rate_hz: int) -> float | None:
        """Return the duration that an MP3 declares, in seconds; None where it declares none.

        FFmpeg ignores it where tags make the file much longer than the Xing frame declares, and guesses from the bitrate.
        """
        return self.mp3_frames * (1152 if rate_hz >= _MPEG1_HZ else 576) / rate_hz if self.mp3_frames and rate_hz else None

    def audio_begin(self, first: int) -> int:
        """Return the offset of a raw stream's audio, given the offset of FFmpeg's first packet."""
        return first if self.begin is None or self.begin <= first <= self.begin + _NEAR_BYTES else self.begin


def look(file: AudioFile) -> Front:
    """Read the facts in the first bytes of a file.

    Args:
        file: The file; its source is at its start afterwards.
    """
    source, name = file.source, file.name
    front = Front()
    if name == "flac":
        front = Front(begin=_after_flac_metadata(source))
    elif name == "mp3":
        front = Front(mp3_frames=_declared_frames(source))
    elif name == "asf":
        front = Front(asf_s=_asf_s(source))
    elif name == "wav":
        front = Front(wav_share=_wav_share(source, file.size))
    source.seek(0)
    return front


def without_tags(file: AudioFile) -> tuple[AudioFile, int]:
    """Leave out ID3v1, APEv2, Lyrics3 and ID3v2 tags and zeros at the end of a raw stream, in any order.

    FFmpeg takes tags for packets, or loses the last frame before them. Other containers are returned unchanged.

    In MPEG audio, ADTS and AC-3, a few bytes behind the last frame that are no frame are left out too.

    Returns:
        The file, at its start, with some of the zeros at its end, since a frame may end with zeros; and the offset of these
        zeros, or the end of the file where there are none.
    """
    source, size = file.source, file.size
    if file.name not in RAW:
        return file, size
    end, kept = size, 0
    for _ in range(_MAX_STEPS):
        before = end - _tag_bytes(_read(source, max(0, end - 227), end))
        is_tag = 0 <= before < end  # else there is none, or its length is wrong
        if not is_tag:
            before = _before_zeros(source, end)
        if before == end:
            break
        kept = 0 if is_tag else min(end - before, _KEPT_ZEROS.get(file.name, _MANY_ZEROS))
        end = before
    stop = end + kept
    if file.name in _FRAMED:
        stop -= _rest_bytes(_read(source, max(0, end - _TAIL_BYTES), stop))
    source.seek(0)
    if stop < size:
        file = replace(file, source=view(source, 0, stop), size=stop)
    return file, min(end, stop)


def end_unread(file: AudioFile) -> AudioFile:
    """Return an MP3 with zeros for its last bytes, which are never read: FFmpeg looks there for a title when it opens the file.

    On object storage, that would be a request of its own.
    """
    begin = max(0, file.size - _ID3V1_BYTES)
    return replace(file, source=view(file.source, 0, file.size, {begin: bytes(file.size - begin)}))


def _wav_share(source: IO[bytes], size: int) -> float:
    head = _read(source, 0, 12)
    is_long = head[:4] in LONG_WAVS
    if not (is_long or head[:4] == b"RIFF") or _is_whole(int.from_bytes(head[4:8], "little"), size - 8, is_long=is_long):
        return 1.0
    position, long_size = 12, None
    for _ in range(_MAX_STEPS):
        block = _read(source, position, position + 24)
        if len(block) < 8:
            break
        declared = int.from_bytes(block[4:8], "little")
        if block[:4] == b"ds64":
            long_size = int.from_bytes(block[16:24], "little")
        if block[:4] == b"data":
            available = size - position - 8
            declared = long_size if declared == 0xFFFFFFFF and long_size else declared
            return 1.0 if not available or _is_whole(declared, available) else available / declared
        position += 8 + declared + declared % 2
    return 1.0


def _is_whole(declared: int, available: int, *, is_long: bool = False) -> bool:
    """Tell whether a size is a placeholder, or declares no more bytes than there are; a long WAV has its size in `ds64`."""
    return not is_long and (declared <= available or not declares_size(declared))


# -- before the audio --


def _declared_frames(source: IO[bytes]) -> int:
    """Return the number of frames that the first frame of an MP3 declares; 0 where it declares none."""
    head = _read(source, 0, _NEAR_BYTES)
    while (position := head.find(b"\xff")) >= 0 and len(head) > position + _VBRI_AT + 18:
        frame = head[position:]
        if frame[1] & 0xE6 == 0xE2:  # layer III
            if frame[_VBRI_AT : _VBRI_AT + 4] == b"VBRI":
                return int.from_bytes(frame[_VBRI_AT + 14 : _VBRI_AT + 18], "big")
            for at in _XING_AT:
                if frame[at : at + 4] in (b"Xing", b"Info") and frame[at + 7] & 1:
                    return int.from_bytes(frame[at + 8 : at + 12], "big")
        head = head[position + 1 :]
    return 0


def _asf_s(source: IO[bytes]) -> float | None:
    """Return the duration in a WMA's file properties, in seconds; None where there are none, or they are a broadcast's."""
    head = _read(source, 0, _ASF_HEAD_BYTES)
    position = head.find(_ASF_PROPERTIES)
    if position < 0 or len(head) < position + 92 or head[position + 88] & 1:
        return None
    play_100ns, preroll_ms = (int.from_bytes(head[position + at : position + at + 8], "little") for at in (64, 80))
    return max(0.0, play_100ns / 1e7 - preroll_ms / 1e3) or None


def _after_flac_metadata(source: IO[bytes]) -> int:
    position = len(b"fLaC")
    for _ in range(_MAX_STEPS):
        block = _read(source, position, position + 4)
        position += 4 + int.from_bytes(block[1:], "big")
        if len(block) < 4 or block[0] & 128:  # the last one
            break
    return position


# -- after the audio --


def _tag_bytes(tail: bytes) -> int:
    """Return the length of the tag at the end of these bytes; 0 where there is none."""
    if tail[-_ID3V1_BYTES:].startswith(b"TAG"):
        return 227 if tail[-227:-223] == b"TAG+" else _ID3V1_BYTES
    if tail[-32:-24] == b"APETAGEX":
        return int.from_bytes(tail[-20:-16], "little") + 32 * (tail[-9] >> 7)  # plus a header where there is one
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return 15 + int(tail[-15:-9])
    if tail[-10:-7] == b"3DI":
        return 20 + _syncsafe(tail[-4:])
    return 0


def _rest_bytes(tail: bytes) -> int:
    """Return the number of bytes behind the last frame that are no frame: zeros, a line end, an address.

    FFmpeg takes them for a broken packet, and in AC-3 for the end of the last frame. Bytes other than zeros count only where they
    are fewer than the last frame's and begin with no header: more of them may be damaged frames.
    """
    run = frames.first_run(tail, 0, len(tail))
    while run and run.stop < len(tail):
        left = tail[run.stop :]
        if not left.strip(b"\0") or (len(left) < run.last_bytes and not frames.sync_of(left)):
            return len(left)
        run = frames.first_run(tail, run.stop, len(tail))
    return 0


def _before_zeros(source: IO[bytes], end: int) -> int:
    """Return the offset of the zeros before `end`, or the end of a tag that ends with these zeros."""
    begin = end
    while end - begin < _MAX_ZEROS:
        block = _read(source, max(0, begin - _ZEROS_AT_ONCE), begin)
        left = len(block.rstrip(b"\0"))
        begin -= len(block) - left
        if left or not block:
            break
    if end - begin < _FEWEST_ZEROS:
        return end
    for sign, size in ((b"APETAGEX", 32), (b"TAG", 128)):
        near = max(0, begin - size)
        tag = _read(source, near, begin).rfind(sign)
        if tag >= 0 and begin <= near + tag + size < end:
            return near + tag + size
    return begin


def _read(source: IO[bytes], begin: int, end: int) -> bytes:
    return read_at(source, begin, end - begin)


def _syncsafe(number: bytes) -> int:
    return sum((byte & 127) << shift for byte, shift in zip(number, (21, 14, 7, 0), strict=False))
