"""Lists of lines: plain text with one URI per line; and M3U playlists, as players write them."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pyarrow as pa

from sep_batch.pipeline.manifest.parse import Parsed, UnreadableError, decoded
from sep_batch.pipeline.storage import uris

_HLS = "#EXT-X-"
_LOCAL = re.compile(r"(?i)file://(?:localhost(?=/))?")
_BACKSLASHES = "a Windows path, expected / between folders"


def read_text(content: bytes) -> Parsed:
    """Read a list: one URI per line, without blanks around it or empty lines. A line may begin with `#`, as a path may.

    Raises:
        UnreadableError: It is no text in UTF-8 or UTF-16.
    """
    return _parsed(_lines(decoded(content, "text")))


def read_m3u(content: bytes, *, is_utf8: bool) -> Parsed:
    """Read a playlist: one URI per line; lines that begin with `#` are comments, titles and durations.

    Args:
        content: The file.
        is_utf8: True for an M3U8. An M3U that is not UTF-8 is read as Windows-1252.

    Raises:
        UnreadableError: It is no text, or the playlist of an HLS stream.
    """
    warnings: tuple[str, ...] = ()
    try:
        text = decoded(content, "M3U")
    except UnreadableError:
        if is_utf8 or b"\0" in content:
            raise
        text = _western(content)
        warnings = ("the playlist is not in UTF-8, and was read as Windows-1252; names may come out wrong",)
    lines = _lines(text)
    if any(line.upper().startswith(_HLS) for line in lines):
        raise UnreadableError("the playlist of an HLS stream, whose segments are no tracks; expected a list of audio files")
    entries = [_entry(line) for line in lines if not line.startswith("#")]
    problems = {number: f"{uris.shown(entry)}: {_BACKSLASHES}" for number, entry in enumerate(entries) if _is_of_windows(entry)}
    return _parsed(entries, problems, warnings)


def _western(content: bytes) -> str:
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"not readable as M3U: neither UTF-8 nor Windows-1252 ({error.reason})") from error


def _lines(text: str) -> list[str]:
    return [line.strip() for line in re.split("\r\n|\r|\n", text) if line.strip()]


def _entry(line: str) -> str:
    """Return a line's URI: players write paths as file:// URIs with percent signs."""
    local = _LOCAL.match(line)
    return f"file://{unquote(line[local.end() :])}" if local else line


def _is_of_windows(entry: str) -> bool:
    return "\\" in entry and "/" not in entry and not re.match(r"[A-Za-z]:|\\\\", entry)  # those have a message of their own


def _parsed(entries: list[str], problems: dict[int, str] | None = None, warnings: tuple[str, ...] = ()) -> Parsed:
    return Parsed(pa.table({"uri": pa.array(entries, pa.string())}), problems or {}, warnings)
