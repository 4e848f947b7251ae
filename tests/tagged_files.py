"""Small pictures, tags, and tagged files of every kind; and tags as mutagen reads them."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import mutagen
import mutagen.flac
import numpy as np

from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.codecs import CODECS, DEFAULT_BITRATE
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.audio.pictures import picture
from sep_batch.pipeline.audio.tags import Tags, cleaned

VALUES = {
    "title": "Über den Wolken\nzweite Zeile",
    "artist": "Ärzte & 音楽",
    "album": "An album",
    "album_artist": "Various",
    "track": "3/12",
    "disc": "1/2",
    "date": "1999-12-31",
    "genre": "Rock",
    "composer": "A. Composer",
    "comment": "A comment",
    "copyright": "(c) 1999",
    "ISRC": "DEA129900001",
    "MOOD": "calm",
}
_MP4 = {
    "title": "\xa9nam",
    "artist": "\xa9ART",
    "album": "\xa9alb",
    "album_artist": "aART",
    "date": "\xa9day",
    "genre": "\xa9gen",
    "composer": "\xa9wrt",
    "comment": "\xa9cmt",
    "copyright": "cprt",
}
_ID3 = {
    "title": "TIT2",
    "artist": "TPE1",
    "album": "TALB",
    "album_artist": "TPE2",
    "track": "TRCK",
    "disc": "TPOS",
    "date": "TDRC",
    "genre": "TCON",
    "composer": "TCOM",
    "comment": "COMM::XXX",
    "copyright": "TCOP",
    "ISRC": "TSRC",
}
_ASF = {
    "title": "Title",
    "artist": "Author",
    "album": "WM/AlbumTitle",
    "album_artist": "WM/AlbumArtist",
    "disc": "WM/PartOfSet",
    "track": "WM/TrackNumber",
    "date": "WM/Year",
    "genre": "WM/Genre",
    "composer": "WM/Composer",
    "comment": "Description",
    "copyright": "Copyright",
    "ISRC": "WM/ISRC",
}
_VORBIS = {"album_artist": "albumartist", "track": "tracknumber", "disc": "discnumber", "comment": "description"}
FORMATS = [(format, depth) for format, depths in CODECS.items() for depth in depths]


def png(side=2, filler=0):
    """Return a black PNG; `filler` bytes of it are a chunk that readers skip."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress((b"\0" + bytes(3 * side)) * side)
    noise = np.random.default_rng(1).bytes(filler)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"seDA", noise) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(side=2):
    """Return the headers of a JPEG."""
    segment = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    return b"\xff\xd8" + segment + b"\xff\xc0\0\x0b\x08" + struct.pack(">HH", side, side) + b"\1\1\x11\0\xff\xd9"


def tags(values=None, cover=None):
    """Return tags with these values, by default all of VALUES."""
    return Tags(cleaned((VALUES if values is None else values).items())[0], picture(cover or b""))


def tagged(format, depth="", *, values=None, cover=None, samples=5_000, rate_hz=44_100):
    """Return a tagged file of noise."""
    codec = CODECS[format]["" if "" in CODECS[format] else depth or "16"]
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (2, samples)).astype(np.float32)
    bitrate = DEFAULT_BITRATE if codecs.is_lossy(format) else None
    return encode(wave, codec, rate_hz=codec.rate_for(rate_hz), bitrate=bitrate, tags=tags(values, cover))


def read_back(content, format, names=VALUES):
    """Return the tags of these names and the cover as mutagen reads them; the track as `3/12` in every format."""
    file = mutagen.File(io.BytesIO(content))
    own = file.tags or {}
    if format == "m4a":
        values = {name: _mp4(own, name) for name in names}
        return values, bytes(own["covr"][0]) if "covr" in own else b""
    if format in ("mp3", "wav"):
        values = {name: str(own.get(_ID3.get(name, f"TXXX:{name}"), "")) for name in names}
        return values, own["APIC:"].data if "APIC:" in own else b""
    if format == "wma":
        return {name: str(own.get(_ASF.get(name, name), [""])[0]) for name in names}, b""
    values = {name: own.get(_VORBIS.get(name, name), [""])[0] for name in names}
    if format == "flac":
        return values, file.pictures[0].data if file.pictures else b""
    blocks = own.get("metadata_block_picture")
    return values, mutagen.flac.Picture(base64.b64decode(blocks[0])).data if blocks else b""


def _mp4(own, name):
    if name in ("track", "disc"):
        number, total = own[{"track": "trkn", "disc": "disk"}[name]][0]
        return f"{number}/{total}"
    key = _MP4.get(name, f"----:com.apple.iTunes:{name}")
    value = own.get(key, [""])[0]
    return value.decode() if isinstance(value, bytes) else value
