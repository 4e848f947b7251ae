"""The kinds of files that are decoded, by FFmpeg's demuxer, and the extensions of their names.

A folder lists files by these extensions; the bytes of a file decide its kind (`beginning`). Films are here for their sound.
"""

from __future__ import annotations

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "mp3": (".mp3", ".mp2", ".mp1", ".mpga", ".mpa", ".m2a"),
    "flac": (".flac",),
    "wav": (".wav", ".wave", ".bwf", ".rf64", ".bw64"),
    "mov": (".m4a", ".mp4", ".m4b", ".m4r", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4a", ".f4v", ".alac"),
    "ogg": (".ogg", ".oga", ".opus", ".spx", ".ogx", ".ogv"),
    "aiff": (".aif", ".aiff", ".aifc", ".aiffc"),
    "asf": (".wma", ".asf", ".wmv"),
    "matroska": (".mka", ".mkv", ".webm", ".weba"),
    "aac": (".aac", ".adts", ".adt"),
    "ac3": (".ac3", ".eac3", ".ec3"),
    "au": (".au", ".snd"),
    "caf": (".caf",),
    "wv": (".wv",),
    "ape": (".ape",),
    "tta": (".tta",),
}
