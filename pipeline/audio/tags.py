"""Tags of a file: their names, their bounds, and how untrusted text becomes a tag. No file is read or written here.

Names are FFmpeg's own in lower case (title, album_artist), all others in upper case. Tags that describe the source's file, not
its music, are no tags of a stem: its encoder, loudness, gapless playback, channel mask, pictures in text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sep_batch.pipeline.audio.pictures import Picture

MAX_TAGS = 256
MAX_NAME_CHARS = 64
MAX_VALUE_BYTES = 16 << 10  # of UTF-8: ASF holds 64 KiB of UTF-16
MAX_BYTES = 256 << 10  # of all names and values, in UTF-8
MAX_COVER_BYTES = 8 << 20

_GENERIC = (
    *("album", "album_artist", "artist", "comment", "composer", "copyright", "date", "disc", "genre", "language", "lyrics"),
    *("performer", "publisher", "title", "track"),
)
_OTHER_NAMES = {"TSRC": "ISRC", "WM/ISRC": "ISRC", "WM/YEAR": "date"}
_NAME = re.compile(rf"[ -<>-}}]{{1,{MAX_NAME_CHARS}}}")  # a field name of Vorbis comments: ASCII without "="
_OF_THE_FILE = re.compile(
    r"ENCODER|ENCODED_BY|ENCODING.*|ENCODERSETTINGS|TSSE|MAJOR_BRAND|MINOR_VERSION|COMPATIBLE_BRANDS|CREATION_TIME|HANDLER_NAME|"
    r"VENDOR_ID|DURATION|TLEN|ITUNSMPB|ITUNNORM|GAPLESS_PLAYBACK|ACCOUNT_.*|PURCHASE_DATE|"
    r"WAVEFORMATEXTENSIBLE_CHANNEL_MASK|METADATA_BLOCK_PICTURE|COVERART|COVERARTMIME|"
    r"TIME_REFERENCE|CODING_HISTORY|UMID|WMFSDK\w+|ISVBR|DEVICECONFORMANCETEMPLATE|"
    r"(REPLAYGAIN_|R128_|MP3GAIN_|SEP_BATCH_|ID3V2_PRIV\.|_STATISTICS).*"
)
_LANGUAGE = re.compile(r"(?<=^lyrics)-[a-z]{3}$")  # FFmpeg appends that of an ID3 tag
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


@dataclass(frozen=True)
class Tags:
    """Tags of one file.

    Attributes:
        values: Names and values, in the order of the names.
        cover: The cover picture.
    """

    values: tuple[tuple[str, str], ...] = ()
    cover: Picture | None = None

    def __bool__(self) -> bool:
        """Tell whether there is a tag or a cover."""
        return bool(self.values or self.cover)


NO_TAGS = Tags()


@dataclass(frozen=True)
class SourceTags:
    """Tags of a source.

    Attributes:
        tags: The tags.
        warning: Description of those that were left out; empty where there are none.
    """

    tags: Tags = NO_TAGS
    warning: str = ""


def cleaned(metadata: Iterable[tuple[str, str]]) -> tuple[tuple[tuple[str, str], ...], int]:
    """Return the tags among untrusted names and values, and the number of those beyond the bounds, which are left out.

    Lines end with a line feed, other control characters are removed; empty values are none. Of equal names the first one counts.
    """
    kept: dict[str, str] = {}
    left_out = size = 0
    for name, value in metadata:
        name, value = _name(name), _text(value)  # noqa: PLW2901 (the raw ones must not be used)
        if not value or name in kept or _OF_THE_FILE.fullmatch(name.upper()):
            continue
        length = len(value.encode())
        if not _NAME.fullmatch(name) or length > MAX_VALUE_BYTES or len(kept) == MAX_TAGS or size + length > MAX_BYTES:
            left_out += 1
            continue
        kept[name] = value
        size += length + len(name)
    return tuple(sorted(kept.items())), left_out


def warning(left_out: int, *, cover: str = "", front: str = "") -> str:
    """Return the description of tags that were left out; empty where there are none.

    Args:
        left_out: Number of tags beyond the bounds.
        cover: Reason why the cover was left out; empty where it was not.
        front: Reason why tags before the audio were left out; empty where they were not.
    """
    bounds = f"expected at most {MAX_TAGS} of {MAX_VALUE_BYTES >> 10} KiB, {MAX_BYTES >> 10} KiB in all, with ASCII names"
    texts = [f"{left_out:,} tags left out: {bounds}"] if left_out else []
    texts += [f"tags left out: {front}"] if front else []
    return "; ".join([*texts, *([f"cover left out: {cover}"] if cover else [])])


def _name(name: str) -> str:
    lower = _LANGUAGE.sub("", name.strip().lower())
    return lower if lower in _GENERIC else _OTHER_NAMES.get(lower.upper(), lower.upper())


def _text(value: str) -> str:
    plain = value.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROLS).strip()
    return plain.encode(errors="replace").decode()
