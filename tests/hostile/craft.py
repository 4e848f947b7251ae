"""Containers built byte by byte, so that every field can lie."""

from __future__ import annotations

import functools
import io
import struct

import av
import numpy as np
from signals import noise, tone

FORMATS = {  # container, encoder, sample format: all that FFmpeg writes of what we read
    "wav": ("wav", "pcm_s16le", "s16"),
    "aiff": ("aiff", "pcm_s16be", "s16"),
    "au": ("au", "pcm_s16be", "s16"),
    "caf": ("caf", "pcm_s16le", "s16"),
    "flac": ("flac", "flac", "s16"),
    "mp3": ("mp3", "libmp3lame", "fltp"),
    "mp2": ("mp2", "mp2", "s16"),
    "m4a": ("ipod", "aac", "fltp"),
    "alac": ("ipod", "alac", "s16p"),
    "aac": ("adts", "aac", "fltp"),
    "opus": ("ogg", "libopus", "flt"),
    "ogg": ("ogg", "flac", "s16"),
    "mka": ("matroska", "flac", "s16"),
    "webm": ("webm", "libopus", "flt"),
    "wma": ("asf", "wmav2", "fltp"),
    "ac3": ("ac3", "ac3", "fltp"),
    "wv": ("wv", "wavpack", "s16p"),
    "tta": ("tta", "tta", "s16"),
    "float": ("wav", "pcm_f32le", "flt"),
    "adpcm": ("wav", "adpcm_ms", "s16"),
    "vorbis": ("ogg", "vorbis", "fltp"),
    "eac3": ("matroska", "eac3", "fltp"),
}
WHOLE_HZ = 48_000  # what all of them can hold


@functools.cache
def whole(format: str, seconds: float = 1.0, hz: float = 440) -> bytes:
    """Return a stereo tone in noise, written by FFmpeg."""
    container, encoder, samples = FORMATS[format]
    count = round(seconds * WHOLE_HZ)
    wave = tone(hz, count, rate_hz=WHOLE_HZ) + noise(count, level=0.01)
    out = io.BytesIO()
    with av.open(out, "w", format=container, options={"fflags": "+bitexact"}) as muxer:
        stream = muxer.add_stream(encoder, rate=WHOLE_HZ, layout="stereo", options={"flags": "+bitexact", "strict": "-2"})
        stream.format, stream.bit_rate = samples, 128_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = WHOLE_HZ, 0
        for part in av.AudioResampler(format=samples, layout="stereo", rate=WHOLE_HZ).resample(frame):
            muxer.mux(stream.encode(part))
        muxer.mux(stream.encode(None))
    return out.getvalue()


def video(container: str) -> bytes:
    """Return a film without sound."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream = muxer.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            muxer.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        muxer.mux(stream.encode(None))
    return out.getvalue()


def patched(content: bytes, place: int, new: bytes) -> bytes:
    """Return a file with some of its bytes replaced; a negative place counts from the end."""
    start = place % len(content)
    return content[:start] + new + content[start + len(new) :]


# -- WAV --


def riff(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """Return one block of a RIFF file, little-endian."""
    return name + struct.pack("<I", len(content) if size is None else size) + content


def form(
    *, tag: int = 1, channels: int = 2, rate_hz: int = 44_100, bits: int = 16, align: int | None = None, more: bytes = b""
) -> bytes:
    """Return a WAV's format block."""
    width = channels * bits // 8 % 65_536 if align is None else align
    return riff(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * width % 2**32, width, bits) + more)


def pcm(seconds: float = 0.5, channels: int = 2) -> bytes:
    """Return 16-bit noise at 44.1 kHz."""
    wave = noise(round(seconds * 44_100), channels=channels)
    return np.rint(wave.T * 32_767).astype("<i2").tobytes()


def floats(wave: np.ndarray) -> bytes:
    """Return a float WAV of (channels, samples)."""
    return wav(form(tag=3, channels=len(wave), bits=32), data=np.ascontiguousarray(wave.T, "<f4").tobytes())


def wav(
    *blocks: bytes, data: bytes | None = None, data_size: int | None = None, size: int | None = None, magic: bytes = b"RIFF"
) -> bytes:
    """Return a WAV of these blocks, by default an honest format, and its samples last."""
    body = b"WAVE" + (b"".join(blocks) or form()) + riff(b"data", pcm() if data is None else data, data_size)
    return riff(magic, body, size)


# -- FLAC --


def flac_block(kind: int, content: bytes, *, last: bool = False, size: int | None = None) -> bytes:
    """Return a metadata block."""
    return bytes([kind | 128 * last]) + struct.pack(">I", len(content) if size is None else size)[1:] + content


def stream_info(
    samples: int, *, rate_hz: int = 44_100, channels: int = 2, bits: int = 16, block: tuple[int, int] = (65_535, 65_535)
) -> bytes:
    """Return a FLAC's STREAMINFO."""
    packed = rate_hz << 44 | (channels - 1) << 41 | (bits - 1) << 36 | samples
    return struct.pack(">HH", *block) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)


def silent_flac(seconds: float, *, declared: int | None = None) -> bytes:
    """Return silence as FLAC, 13 bytes a second: what an hour of it takes in memory is for the decoder to say."""
    samples = round(seconds * 44_100)
    frames = b"".join(_silent_frame(number) for number in range(samples // 65_535))
    info = stream_info(samples // 65_535 * 65_535 if declared is None else declared)
    return b"fLaC" + flac_block(0, info, last=True) + frames


def _silent_frame(number: int) -> bytes:
    head = b"\xff\xf8\x79\x18" + chr(number).encode() + struct.pack(">H", 65_534)  # 16-bit block size, 44.1 kHz, stereo, 16 bits
    head += bytes([_crc(head, 0x07, 8)])
    frame = head + 2 * b"\0\0\0"  # each channel: a constant, 0
    return frame + struct.pack(">H", _crc(frame, 0x8005, 16))


def _crc(content: bytes, polynomial: int, bits: int) -> int:
    table, value = _crc_table(polynomial, bits), 0
    for byte in content:
        value = (value << 8 ^ table[value >> (bits - 8) ^ byte]) & (1 << bits) - 1
    return value


@functools.cache
def _crc_table(polynomial: int, bits: int) -> list[int]:
    table, top = [], 1 << (bits - 1)
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & (1 << bits) - 1
        table.append(value)
    return table


# -- MP3 --


def id3(content: bytes, size: int | None = None) -> bytes:
    """Return an ID3v2.4 tag."""
    return b"ID3\4\0\0" + _syncsafe(len(content) if size is None else size) + content


def packed_text(letters: int, unpacked: bytes) -> bytes:
    """Return an ID3 text frame that unpacks to much.

    Args:
        letters: Which one: frames of one name replace one another.
        unpacked: A zlib stream.
    """
    body = _syncsafe(letters) + unpacked
    return b"TXXX" + _syncsafe(len(body)) + b"\0\x09" + body


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def xing(frames: int) -> bytes:
    """Return one MP3 frame that says of how many the file has."""
    return (b"\xff\xfb\x90\x64" + bytes(32) + b"Xing" + struct.pack(">II", 1, frames)).ljust(417, b"\0")


# -- Ogg --


def ogg_pages(content: bytes) -> list[bytes]:
    """Cut an Ogg file into its pages."""
    starts = [place for place in range(len(content)) if content.startswith(b"OggS\0", place)]
    return [content[start:stop] for start, stop in zip(starts, [*starts[1:], len(content)], strict=True)]


def ogg_page(page: bytes, place: int, new: bytes) -> bytes:
    """Return a page with some bytes replaced and its checksum right again."""
    blank = patched(patched(page, place, new), 22, bytes(4))
    return patched(blank, 22, struct.pack("<I", _crc(blank, 0x04C11DB7, 32)))


# -- MP4 --


def box(name: bytes, *content: bytes, size: int | None = None) -> bytes:
    """Return an MP4 box."""
    joined = b"".join(content)
    return struct.pack(">I", 8 + len(joined) if size is None else size) + name + joined


def box_place(content: bytes, name: bytes) -> int:
    """Return where a box's own content begins."""
    return content.index(name) + len(name)


def table(*numbers: int) -> bytes:
    """Return an MP4 table's content: version and flags, and 32-bit numbers."""
    return struct.pack(f">{1 + len(numbers)}I", 0, *numbers)


def mp4(
    *,
    entry: bytes = b"sowt",
    rate_hz: int = 44_100,
    channels: int = 2,
    more: bytes = b"",
    samples: int = 22_050,
    stts: bytes | None = None,
    stsc: bytes | None = None,
    stsz: bytes | None = None,
    stco: bytes | None = None,
    dref: bytes = box(b"url ", b"\0\0\0\1"),
    timescale: int = 44_100,
    data: bytes | None = None,
) -> bytes:
    """Return an MP4 of 16-bit PCM in one run, each of whose tables may be another one."""
    ftyp = box(b"ftyp", b"M4A \0\0\0\0M4A mp42isom")
    sound = bytes(6) + struct.pack(">HHHIHHHHI", 1, 0, 0, 0, channels, 16, 0, 0, (rate_hz & 0xFFFF) << 16)
    tables = box(
        b"stbl",
        box(b"stsd", table(1), box(entry, sound, more)),
        box(b"stts", table(1, samples, 1) if stts is None else stts),
        box(b"stsc", table(1, 1, samples, 1) if stsc is None else stsc),
        box(b"stsz", table(4, samples) if stsz is None else stsz),
        box(b"stco", table(1, len(ftyp) + 8) if stco is None else stco),
    )
    media = box(b"minf", box(b"smhd", bytes(8)), box(b"dinf", box(b"dref", table(1), dref)), tables)
    mdia = box(
        b"mdia", box(b"mdhd", table(0, 0, timescale, samples, 0x55C40000)), box(b"hdlr", bytes(8) + b"soun" + bytes(13)), media
    )
    head = table(0, 0, 1000, 500, 0x10000, 0x1000000) + bytes(70) + struct.pack(">I", 2)
    moov = box(b"moov", box(b"mvhd", head), box(b"trak", box(b"tkhd", table(0, 0, 1, 0, 500) + bytes(60)), mdia))
    return ftyp + box(b"mdat", pcm() if data is None else data) + moov


# -- Matroska --


def element(id: str, *content: bytes, size: int | None = None) -> bytes:
    """Return an EBML element; its size is written in eight bytes."""
    joined = b"".join(content)
    return bytes.fromhex(id) + b"\x01" + (len(joined) if size is None else size).to_bytes(7, "big") + joined


def matroska(
    *,
    rate: bytes = struct.pack(">d", 44_100.0),
    channels: bytes = b"\x02",
    codec: bytes = b"A_PCM/INT/LIT",
    more: bytes = b"",
    block: bytes | None = None,
    size: int | None = None,
) -> bytes:
    """Return a Matroska file of 16-bit PCM in one block."""
    head = element("1A45DFA3", element("4282", b"matroska"), element("4287", b"\x04"), element("4285", b"\x02"))
    sound = element("E1", element("B5", rate), element("9F", channels), element("6264", b"\x10"))
    track = element("AE", element("D7", b"\1"), element("73C5", b"\1"), element("83", b"\2"), element("86", codec), sound, more)
    content = (b"\x81\0\0\x80" + pcm()) if block is None else block
    cluster = element("1F43B675", element("E7", b"\0"), element("A3", content))
    info = element("1549A966", element("2AD7B1", (1_000_000).to_bytes(3, "big")))
    return head + element("18538067", info, element("1654AE6B", track), cluster, size=size)
