"""Kinds of files that are no audio, in words: for people who read why a file failed."""

from __future__ import annotations

import re

HEAD_BYTES = 512
_SHOWN_CHARS = 40  # of a text
_SIGNATURES: tuple[tuple[bytes, str], ...] = (  # patterns of the first bytes, and the kind
    (rb"(?i:\s*<(!doctype html|html|head|body))", "a web page"),
    (rb"\s*<\?xml|\s*<[A-Za-z]+[ >]", "XML"),
    (rb"version https://git-lfs", "a pointer of Git LFS, in place of its file"),
    (rb"PK[\x03\x05]", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"BZh", "a bzip2 archive"),
    (rb"\xfd7zXZ", "an xz archive"),
    (rb"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (rb"7z\xbc\xaf", "a 7-Zip archive"),
    (rb"Rar!", "a RAR archive"),
    (rb".{257}ustar", "a tar archive"),
    (rb"%PDF", "a PDF"),
    (rb"\x89PNG", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8", "a GIF image"),
    (rb"MThd", "a MIDI file, notes without sound"),
    (rb"SQLite format", "an SQLite database"),
    (rb"PAR1", "a Parquet file; is it a manifest?"),
    (rb"\x7fELF|MZ[^ -~]", "a program"),
    (rb"\xd0\xcf\x11\xe0", "an old Office document"),
    (rb"bplist", "a property list"),
    (rb"\x00\x05\x16\x07", "a resource fork of macOS, in place of its file"),
)


def looks_like(head: bytes) -> str:
    """Return what a file looks like that begins with these bytes, as `a web page` or `text: 'no audio'`; empty if unknown."""
    if not head.strip(b"\0"):
        return "zeros" if head else ""
    kind = next((kind for pattern, kind in _SIGNATURES if re.match(pattern, head, re.DOTALL)), None)
    return kind or _text(head)


def _text(head: bytes) -> str:
    """Return the beginning of a text in UTF-8; empty for anything else."""
    head = head.removeprefix(b"\xef\xbb\xbf")  # the sandbox can load no further codec
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else the last character is cut
            return ""
        text = head[: error.start].decode()
    if not all(char.isprintable() or char in "\t\n\r" for char in text):
        return ""
    line = " ".join(text.split())
    return f"text: {line[:_SHOWN_CHARS] + ('...' if len(line) > _SHOWN_CHARS else '')!r}"
