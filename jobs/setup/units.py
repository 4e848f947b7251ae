"""Amounts as text: bytes and time spans with their units, as reports print them."""

from __future__ import annotations

from datetime import timedelta


def data_size(count: float) -> str:
    """Return a number of bytes as text: 4.2 kB, 23.8 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"


def tracks(count: int) -> str:
    """Return a number of tracks in words: 1 track, 2,000 tracks."""
    return f"{count:,} track{'' if count == 1 else 's'}"


def audio_length(seconds: float) -> str:
    """Return a duration of audio as text: 8.0 s, 26.9 min, 1,204.31 h."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:,.2f} h"


def clock(seconds: float) -> str:
    """Return a time span as a clock shows it: 0:01:55; 2 days, 0:03:00."""
    return str(timedelta(seconds=round(seconds)))


def span(seconds: float) -> str:
    """Return a time span in one or two units: 8 s, 26 min, 3 h 5 min, 2 d 4 h."""
    minutes, whole_hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if whole_hours < 48 else f"{whole_hours // 24} d {whole_hours % 24} h"
