"""Every kind that is decoded has extensions, and what FFmpeg writes under each of them decodes."""

from __future__ import annotations

import functools
import io
import struct

import craft
import pytest

from sep_batch.pipeline.audio import beginning, containers, decoding
from sep_batch.pipeline.audio.kinds import EXTENSIONS

OF_FFMPEG = {  # container, encoder, sample format
    **dict.fromkeys((".mp3", ".mpga"), ("mp3", "libmp3lame", "fltp")),
    **dict.fromkeys((".mp1", ".mp2", ".mpa", ".m2a"), ("mp2", "mp2", "s16")),
    ".flac": ("flac", "flac", "s16"),
    **dict.fromkeys((".wav", ".wave", ".bwf", ".rf64", ".bw64"), ("wav", "pcm_s24le", "s32")),
    **dict.fromkeys((".m4a", ".m4b", ".m4r"), ("ipod", "aac", "fltp")),
    ".alac": ("ipod", "alac", "s16p"),
    **dict.fromkeys((".mp4", ".m4v"), ("mp4", "aac", "fltp")),
    **dict.fromkeys((".mov", ".qt"), ("mov", "pcm_s16le", "s16")),
    **dict.fromkeys((".f4a", ".f4v"), ("f4v", "aac", "fltp")),
    ".3gp": ("3gp", "aac", "fltp"),
    ".3g2": ("3g2", "aac", "fltp"),
    **dict.fromkeys((".ogg", ".ogx", ".ogv", ".spx"), ("ogg", "vorbis", "fltp")),
    ".oga": ("oga", "flac", "s16"),
    ".opus": ("opus", "libopus", "flt"),
    **dict.fromkeys((".aif", ".aiff"), ("aiff", "pcm_s16be", "s16")),
    **dict.fromkeys((".aifc", ".aiffc"), ("aiff", "pcm_s16le", "s16")),  # little-endian, which makes it AIFF-C
    **dict.fromkeys((".wma", ".wmv", ".asf"), ("asf", "wmav2", "fltp")),
    **dict.fromkeys((".mka", ".mkv"), ("matroska", "flac", "s16")),
    **dict.fromkeys((".webm", ".weba"), ("webm", "libopus", "flt")),
    **dict.fromkeys((".aac", ".adts", ".adt"), ("adts", "aac", "fltp")),
    ".ac3": ("ac3", "ac3", "fltp"),
    **dict.fromkeys((".eac3", ".ec3"), ("eac3", "eac3", "fltp")),
    **dict.fromkeys((".au", ".snd"), ("au", "pcm_s16be", "s16")),
    ".caf": ("caf", "pcm_s16le", "s16"),
    ".wv": ("wv", "wavpack", "s16p"),
    ".tta": ("tta", "tta", "s16"),
}
RATE_HZ = 48_000


@functools.cache
def silent_ape() -> bytes:
    """Return half a second of silence as Monkey's Audio, which FFmpeg does not write: one frame that says it is silent."""
    frame = struct.pack("<II", 1 << 31, 3) + bytes(24)  # flags follow the checksum; both channels are silent
    size, blocks = len(frame), RATE_HZ // 2
    described = b"MAC " + struct.pack("<HHIIIIIII", 3990, 0, 52, 24, 4, 0, size, 0, 0) + bytes(16)
    header = struct.pack("<HHIIIHHI", 2000, 0, 73_728, blocks, 1, 16, 2, RATE_HZ)
    return described + header + struct.pack("<I", 52 + 24 + 4) + frame


def written(extension, monkeypatch):
    """Return a file as FFmpeg writes it under an extension."""
    if extension == ".ape":
        return silent_ape()
    monkeypatch.setitem(craft.FORMATS, extension, OF_FFMPEG[extension])
    return craft.whole(extension, 0.5)


def test_there_are_extensions_of_every_kind_that_is_found_in_a_file():
    signs = {demuxer for _, demuxer in beginning._SIGNS}
    frames = {"mp3", "aac", "ac3"}
    assert set(EXTENSIONS) == signs | frames
    assert all(EXTENSIONS.values())


def test_every_extension_stands_once_lower_case_and_with_its_dot():
    every = [extension for extensions in EXTENSIONS.values() for extension in extensions]
    assert len(every) == len(set(every))
    assert all(extension == f".{extension[1:].lower()}" for extension in every)


@pytest.mark.parametrize(("kind", "extension"), [(kind, one) for kind, many in EXTENSIONS.items() for one in many])
def test_what_ffmpeg_writes_under_each_extension_is_of_its_kind_and_decodes(kind, extension, monkeypatch):
    content = written(extension, monkeypatch)
    assert containers.container_of(content) == kind
    pieces, found = decoding.decode(io.BytesIO(content), rate_hz=RATE_HZ)
    assert sum(piece.shape[1] for piece in pieces) >= 0.45 * RATE_HZ
    assert not found.truncated
