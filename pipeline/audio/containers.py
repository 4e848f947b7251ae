"""Containers: which file is what, by its first bytes, and FFmpeg opened on it with all that it must not do shut off."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import av
import av.error

from sep_batch.pipeline import failures
from sep_batch.pipeline.audio.decode_guard import Watched

MAX_BYTES = 256 << 30  # 24 h of stereo float at 192 kHz are 133 GB
MAX_FRAME_SAMPLES = 1 << 20  # of one channel; the largest honest ones, TTA at 768 kHz, have 802,482

DECODERS = (  # what music comes in; the other 150 of FFmpeg's are never given a byte
    *("aac", "ac3", "alac", "ape", "dca", "eac3", "flac", "gsm_ms", "mlp", "mp1", "mp1float", "mp2", "mp2float", "mp3"),
    *("mp3float", "opus", "speex", "truehd", "tta", "vorbis", "wavpack", "wmalossless", "wmapro", "wmav1", "wmav2"),
    *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_mulaw"),
    *("pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_s8", "pcm_u8"),
    *("pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s64be", "pcm_s64le"),
)
# Only the demuxers of `container_of` are ever used, and none may open anything else: FFmpeg's playlists read other files.
_OPTIONS = {"protocol_whitelist": "none", "codec_whitelist": ",".join(DECODERS), "max_samples": str(MAX_FRAME_SAMPLES)}
MOST_ALLOCATED_BYTES = 256 << 20  # at once, of an MP4: the index of 24 h of AAC at 96 kHz takes 200 MB
_ALLOCATED_BYTES = 64 << 20  # of everything else, and of what a tag unpacks to
_OGG_PAGE_BYTES = 65_307  # the longest
announce: Callable[[str], object] = str  # called with a demuxer's name before a file is opened with it


def container_of(head: bytes) -> str | None:
    """Name FFmpeg's demuxer for a container by its first bytes (4 kB are enough), None for one that is not read."""
    signs: tuple[tuple[Callable[[bytes], bool], str], ...] = (
        (lambda b: b[:4] in (b"RIFF", b"RF64", b"RIFX") and b[8:12] == b"WAVE", "wav"),
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
        (lambda b: b[:2] == b"\x0b\x77", "ac3"),
        (lambda b: b[:1] == b"\xff" and len(b) > 1 and b[1] & 0xF6 == 0xF0, "aac"),  # ADTS: layer bits 00
        (lambda b: b[:1] == b"\xff" and len(b) > 1 and b[1] & 0xE0 == 0xE0, "mp3"),  # MPEG sync
    )
    if head[:3] == b"ID3" and len(head) > 9:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        after = head[10 + size :].lstrip(b"\0")
        return container_of(after) or "mp3" if after[:3] != b"ID3" else "mp3"
    return next((name for holds, name in signs if holds(head)), None)


def identify(source: IO[bytes]) -> tuple[str, int, bytes]:
    """Return FFmpeg's demuxer for a file, its size and its first bytes; refuse what is not read."""
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    head = source.read(4096)
    source.seek(0)
    if not head:
        raise failures.EmptyAudio("the file holds no bytes")
    name = container_of(head)
    if name is None:
        raise failures.UnsupportedFormat(f"first bytes {head[:8].hex(' ')}: no audio container that is read")
    if size > MAX_BYTES:
        raise failures.TooLong(f"a file of {size:,} bytes, expected at most {MAX_BYTES:,}")
    return name, size, head


@contextmanager
def opened(source: IO[bytes], name: str, *, bound_bytes: int | None = None) -> Iterator[tuple[Any, Watched]]:
    """Open a file with one of FFmpeg's demuxers; what it raises is a `DecodeError`, or what the source raised.

    Args:
        source: Seekable, at its start.
        name: As `identify` gives it.
        bound_bytes: Of what FFmpeg takes at once; by default what a file of this kind needs.
    """
    announce(name)
    _bound_allocations(bound_bytes or (MOST_ALLOCATED_BYTES if name == "mov" else _ALLOCATED_BYTES))
    watched = Watched(source)
    try:
        with av.open(watched, format=name, options=_OPTIONS, metadata_errors="replace") as container:
            yield container, watched
    except av.error.FFmpegError as error:
        watched.settle()
        raise failures.DecodeError(f"{name}: {error.strerror or error}") from error


def _bound_allocations(most_bytes: int) -> None:
    """Bound what FFmpeg takes at once, in this process: a header may say that 2 GB follow."""
    ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(most_bytes))  # noqa: SLF001 (PyAV does not hand it on)


def is_cut_short(source: IO[bytes], size: int, head: bytes) -> bool:
    """Tell whether a WAV or Ogg file ends too early by its own words; FFmpeg takes their length from what is there."""
    if head[:4] == b"OggS":
        source.seek(max(0, size - _OGG_PAGE_BYTES))
        _, _, last_page = source.read(_OGG_PAGE_BYTES).rpartition(b"OggS\0")
        source.seek(0)
        return not (last_page and last_page[0] & 4)  # the mark of a stream's end
    declared = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RF64" and head[12:16] == b"ds64":  # above 4 GiB the size stands in a place of its own
        declared = int.from_bytes(head[20:28], "little")
    elif head[:4] != b"RIFF" or declared == 0xFFFFFFFF:
        return False
    return declared + 8 - size > max(4096, 0.01 * declared)
