"""The bytes of a file that hold audio: tags and headers before them, tags and zeros after them are left out.

Raw streams only (`RAW`): in these one frame follows another, so that the sizes of what was read add up to the audio's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import IO

from sep_batch.pipeline.audio import frames
from sep_batch.pipeline.audio.containers import AudioFile
from sep_batch.pipeline.audio.headers import LONG_WAVS, declares_size
from sep_batch.pipeline.audio.view import read_at, view

RAW = ("aac", "ac3", "flac", "mp3", "ogg", "tta", "wv")  # FFmpeg's names of the demuxers
_NEAR_BYTES = 4096  # the first packet may follow what we know by so much: a Xing frame, a seek table
_MAX_STEPS = 10_000  # metadata blocks, pages of headers, blocks of a WAV, tags
_ZEROS_AT_ONCE, _MAX_ZEROS = 1 << 16, 16 << 20
_FEWEST_ZEROS = 64  # fewer are no padding
_MANY_ZEROS = 1 << 16  # more than a frame may end in
_FRAMED = ("aac", "ac3", "mp3")  # each frame says how long it is
_TAIL_BYTES = 32 << 10  # at the end of these; several of the longest frames
_KEPT_ZEROS = {"ac3": 2, "flac": 2, "tta": 4}  # where a frame ends in a checksum
_MPEG1_HZ = 32_000  # and above: frames of 1,152 samples
_XING_AT, _VBRI_AT = (36, 21, 13), 36  # after the beginning of a frame: stereo, mono, mono of the lower rates
_ASF_PROPERTIES, _ASF_HEAD_BYTES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"), 1 << 16


@dataclass(frozen=True)
class Front:
    """What the first bytes of a file tell, read before FFmpeg opens it.

    Attributes:
        begin: Where the metadata of a FLAC file ends; None of others, where FFmpeg gives out all that follows its headers.
        mp3_frames: Frames that an MP3's Xing, Info or VBRI frame declares; 0 where there is none.
        asf_s: Seconds that a WMA declares, which FFmpeg ignores where it is cut; None where it declares nothing.
        wav_share: Share of its samples that a WAV still has, where both of its sizes declare more bytes than there are; else 1.
    """

    begin: int | None = None
    mp3_frames: int = 0
    asf_s: float | None = None
    wav_share: float = 1.0

    def mp3_s(self, rate_hz: int) -> float | None:
        """Return the seconds that an MP3 declares; None where it declares nothing.

        FFmpeg ignores them where tags make the file much longer than its Xing frame says, and guesses from the bitrate.
        """
        return self.mp3_frames * (1152 if rate_hz >= _MPEG1_HZ else 576) / rate_hz if self.mp3_frames and rate_hz else None

    def audio_begin(self, first: int) -> int:
        """Return where the audio of a raw stream begins, where FFmpeg's first packet begins at `first`."""
        return first if self.begin is None or self.begin <= first <= self.begin + _NEAR_BYTES else self.begin


def look(file: AudioFile) -> Front:
    """Read what the first bytes of a file tell.

    Args:
        file: Its source is at its start afterwards.
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
    """Leave out ID3v1, APEv2, Lyrics3 and ID3v2 tags and zeros at the end of a raw stream, in whatever order they lie.

    FFmpeg takes tags for packets, or loses the last frame before them. Other containers are returned as they are.

    In MPEG audio, ADTS and AC-3, a few bytes behind the last frame that are no frame are left out too.

    Returns:
        The file, at its start. Of zeros at its end some stay: a frame may end in them. And where these begin, its end where it
        has none.
    """
    source, size = file.source, file.size
    if file.name not in RAW:
        return file, size
    end, kept = size, 0
    for _ in range(_MAX_STEPS):
        before = end - _tag_bytes(_read(source, max(0, end - 227), end))
        is_tag = 0 <= before < end  # or none, or one that lies
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


def _wav_share(source: IO[bytes], size: int) -> float:
    head = _read(source, 0, 12)
    is_long = head[:4] in LONG_WAVS
    if not (is_long or head[:4] == b"RIFF") or _is_whole(int.from_bytes(head[4:8], "little"), size - 8, is_long=is_long):
        return 1.0
    place, long_size = 12, None
    for _ in range(_MAX_STEPS):
        block = _read(source, place, place + 24)
        if len(block) < 8:
            break
        declared = int.from_bytes(block[4:8], "little")
        if block[:4] == b"ds64":
            long_size = int.from_bytes(block[16:24], "little")
        if block[:4] == b"data":
            there = size - place - 8
            declared = long_size if declared == 0xFFFFFFFF and long_size else declared
            return 1.0 if not there or _is_whole(declared, there) else there / declared
        place += 8 + declared + declared % 2
    return 1.0


def _is_whole(declared: int, there: int, *, is_long: bool = False) -> bool:
    """Tell whether a size declares no more bytes than there are, or nothing; that of a long WAV stands in another place."""
    return not is_long and (declared <= there or not declares_size(declared))


# -- before the audio --


def _declared_frames(source: IO[bytes]) -> int:
    """Return the frames that the first frame of an MP3 declares; 0 where it declares nothing."""
    head = _read(source, 0, _NEAR_BYTES)
    while (place := head.find(b"\xff")) >= 0 and len(head) > place + _VBRI_AT + 18:
        frame = head[place:]
        if frame[1] & 0xE6 == 0xE2:  # layer III
            if frame[_VBRI_AT : _VBRI_AT + 4] == b"VBRI":
                return int.from_bytes(frame[_VBRI_AT + 14 : _VBRI_AT + 18], "big")
            for at in _XING_AT:
                if frame[at : at + 4] in (b"Xing", b"Info") and frame[at + 7] & 1:
                    return int.from_bytes(frame[at + 8 : at + 12], "big")
        head = head[place + 1 :]
    return 0


def _asf_s(source: IO[bytes]) -> float | None:
    """Return the length in a WMA's file properties; None where they are not found, or are those of a broadcast."""
    head = _read(source, 0, _ASF_HEAD_BYTES)
    place = head.find(_ASF_PROPERTIES)
    if place < 0 or len(head) < place + 92 or head[place + 88] & 1:
        return None
    play_100ns, preroll_ms = (int.from_bytes(head[place + at : place + at + 8], "little") for at in (64, 80))
    return max(0.0, play_100ns / 1e7 - preroll_ms / 1e3) or None


def _after_flac_metadata(source: IO[bytes]) -> int:
    place = len(b"fLaC")
    for _ in range(_MAX_STEPS):
        block = _read(source, place, place + 4)
        place += 4 + int.from_bytes(block[1:], "big")
        if len(block) < 4 or block[0] & 128:  # the last one
            break
    return place


# -- after the audio --


def _tag_bytes(tail: bytes) -> int:
    """Return how long the tag is that these bytes end with; 0 where they end with none."""
    if tail[-128:-125] == b"TAG":
        return 227 if tail[-227:-223] == b"TAG+" else 128
    if tail[-32:-24] == b"APETAGEX":
        return int.from_bytes(tail[-20:-16], "little") + 32 * (tail[-9] >> 7)  # with a header too
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return 15 + int(tail[-15:-9])
    if tail[-10:-7] == b"3DI":
        return 20 + _syncsafe(tail[-4:])
    return 0


def _rest_bytes(tail: bytes) -> int:
    """Return how many bytes behind the last of some frames are none: zeros, a line end, an address.

    FFmpeg takes them for a broken packet, and in AC-3 for the end of the last frame. Of other bytes than zeros only fewer than
    the last frame has, that begin with no header: more may be frames that are damaged.
    """
    run = frames.first_run(tail, 0, len(tail))
    while run and run.stop < len(tail):
        left = tail[run.stop :]
        if not left.strip(b"\0") or (len(left) < run.last_bytes and not frames.sync_of(left)):
            return len(left)
        run = frames.first_run(tail, run.stop, len(tail))
    return 0


def _before_zeros(source: IO[bytes], end: int) -> int:
    """Return where the zeros before `end` begin, or where a tag ends whose own last bytes they are."""
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
