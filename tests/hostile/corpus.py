"""Hostile audio files, synthesised, each with what has to become of it; the tables are read as lies.py says.

`BAD` is all of them but those that refer to another file, which `references` makes.
"""

from __future__ import annotations

import gzip
import io
import sqlite3
import struct
import zipfile
from functools import partial

from craft import box, mp4, riff, video, wav, whole
from lies import LIES, Table


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("song.wav", wav())
    return out.getvalue()


def _sqlite() -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE songs (uri TEXT)")
        return database.serialize()


UNSUPPORTED = "unsupported_format"
FOREIGN: Table = {
    "elf.wav": (UNSUPPORTED, lambda: b"\x7fELF\2\1\1" + bytes(200)),
    "png.mp3": (UNSUPPORTED, lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(100)),
    "jpeg.mp3": (UNSUPPORTED, lambda: b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(100)),
    "zip.flac": (UNSUPPORTED, _zip),
    "gzip.wav": (UNSUPPORTED, lambda: gzip.compress(wav(), mtime=0)),
    "sqlite.wav": (UNSUPPORTED, _sqlite),
    "html.mp3": (UNSUPPORTED, lambda: b"<!doctype html><title>404</title>"),
    "pdf.ogg": (UNSUPPORTED, lambda: b"%PDF-1.7\n" + bytes(100)),
    "text.wav": (UNSUPPORTED, lambda: b"not audio at all\n" * 20),
    "json.m4a": (UNSUPPORTED, lambda: b'{"error": "not found"}'),
    "midi.wav": (UNSUPPORTED, lambda: b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk"),
    "avi.wav": (UNSUPPORTED, lambda: riff(b"RIFF", b"AVI LIST" + bytes(100))),
    "zeros.wav": (UNSUPPORTED, lambda: bytes(10_000)),
    "film.mka": (UNSUPPORTED, lambda: video("matroska")),
    "film.m4a": (UNSUPPORTED, lambda: video("mp4")),
    "empty.wav": ("empty_audio", lambda: b""),
    "one_byte.mp3": (UNSUPPORTED, lambda: b"\xff"),
    "a_flac_named.mp3": ("ok", lambda: whole("flac")),
    "a_wav_named.flac": ("ok", wav),
    "an_mp3_named.wav": ("ok", lambda: whole("mp3")),
}

# Texts that make FFmpeg open something else. {path} is a file of this machine, {url} one that a server on loopback would give.
PLAYLISTS = {
    "ffconcat.wav": "ffconcat version 1.0\nfile '{path}'\n",
    "ffconcat_url.mp3": "ffconcat version 1.0\nfile '{url}'\n",
    "hls.mp3": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
    "hls_file.wav": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{path}\n#EXT-X-ENDLIST\n",
    "m3u.mp3": "#EXTM3U\n#EXTINF:10,\n{path}\n",
    "pls.mp3": "[playlist]\nFile1={url}\nNumberOfEntries=1\n",
    "sdp.wav": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    "cue.wav": 'FILE "{path}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "concat.mp3": "concat:{path}|{path}",
    "dash.wav": '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet><Representation><BaseURL>{url}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "subtitles.wav": "1\n00:00:00,000 --> 00:00:10,000\n{path}\n",
    "asx.wma": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "imf.wav": '<?xml version="1.0"?><AssetMap><Path>{path}</Path></AssetMap>',
    "rtsp.mp3": "RTSPtext\nrtsp://127.0.0.1/x\n",
    "smil.mp3": '<smil><body><audio src="{url}"/></body></smil>',
}


def references(path: str, url: str) -> Table:
    """Return files that refer to other ones: playlists, and MP4s whose samples lie in another file."""
    texts: Table = {name: (UNSUPPORTED, partial(text.format(path=path, url=url).encode)) for name, text in PLAYLISTS.items()}
    file, remote = (box(b"url ", bytes(4), place.encode() + b"\0") for place in (f"file://{path}", url))
    alias = box(b"alis", bytes(4), bytes(150) + struct.pack(">hH", 2, len(path)) + path.encode())
    elsewhere: Table = {  # read from the file itself, where they are not
        "mp4_samples_in_a_file.m4a": ("ok", partial(mp4, dref=file)),
        "mp4_samples_at_a_url.m4a": ("ok", partial(mp4, dref=remote)),
        "mp4_samples_behind_an_alias.m4a": ("empty_audio", partial(mp4, dref=alias)),
    }
    return texts | elsewhere


CUT = {  # after 2, 40, 60 and 90 % of 3 s; damaged is what less than half of the declared length comes out of
    "wav": ("damaged", "damaged", "ok truncated", "ok truncated"),
    "aiff": ("damaged", "damaged", "ok truncated", "ok truncated"),
    "au": ("damaged", "damaged", "ok truncated", "ok truncated"),
    "caf": ("damaged", "damaged", "ok truncated", "ok truncated"),
    "flac": ("decode_error", "damaged", "ok truncated skipped", "ok truncated skipped"),
    "mp3": ("damaged", "damaged", "ok truncated", "ok truncated"),
    "mp2": ("ok", "ok", "ok", "ok"),  # declares no length
    "m4a": ("decode_error", "decode_error", "decode_error", "decode_error"),
    "alac": ("decode_error", "decode_error", "decode_error", "decode_error"),
    "aac": ("ok skipped", "ok skipped", "ok skipped", "ok skipped"),  # declares no length
    "opus": ("decode_error", "ok truncated", "ok truncated", "ok truncated"),  # declares no length, but marks its last page
    "ogg": ("decode_error", "ok truncated", "ok truncated", "ok truncated"),
    "vorbis": ("decode_error", "ok truncated", "ok truncated", "ok truncated"),
    "mka": ("empty_audio", "damaged", "ok truncated", "ok truncated"),
    "webm": ("damaged", "damaged", "ok truncated", "ok truncated"),
    "wma": ("empty_audio", "damaged", "ok truncated skipped", "ok truncated skipped"),
    "ac3": ("ok", "ok", "ok", "ok"),  # declares no length
    "wv": ("empty_audio", "damaged", "ok truncated skipped", "ok truncated skipped"),
    "tta": ("decode_error", "damaged", "damaged", "ok truncated skipped"),  # its frames last 1.04 s
}


def _cut(format: str, share: float) -> bytes:
    content = whole(format, 3.0)
    return content[: int(len(content) * share)]


CUTS: Table = {
    f"cut_{round(100 * share)}.{format}": (expected, partial(_cut, format, share))
    for format, outcomes in CUT.items()
    for share, expected in zip((0.02, 0.4, 0.6, 0.9), outcomes, strict=True)
}

BAD: Table = LIES | FOREIGN | CUTS
