"""Which files are audio, by their names, and the audio that lies below a folder or prefix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sep_batch.pipeline import failures, storage, uris
from sep_batch.pipeline.storage import Info

AUDIO_EXTENSIONS = (
    *(".mp3", ".m4a", ".mp4", ".aac", ".flac", ".ogg", ".oga", ".opus", ".wav", ".aif", ".aiff"),
    *(".wma", ".ac3", ".mp2", ".mka", ".webm", ".caf", ".au", ".wv", ".ape", ".tta"),
)


def extension(uri: str) -> str:
    """Return the extension of a URI's name, lower case and with its dot; none is empty."""
    dot = uris.name(uri).rfind(".")
    return uris.name(uri)[dot:].lower() if dot >= 0 else ""


def audio_below(uri: str, odd: list[str]) -> Iterator[Info]:
    """Yield the audio files below a folder or prefix, but not those of hidden names.

    Args:
        uri: The folder.
        odd: Given what is wrong with names that no URI may have; these files are left out.
    """
    return audio_of(storage.find(uri), uri, odd)


def audio_of(listed: Iterable[Info], folder: str, odd: list[str]) -> Iterator[Info]:
    """Yield those of a listing that are audio, as `audio_below` does."""
    for found in listed:
        inside = found.uri[len(folder) :].lstrip("/")
        hidden = any(component.startswith(".") for component in inside.split("/"))
        if extension(inside) in AUDIO_EXTENSIONS and not hidden:
            try:
                uris.check(inside)
                uris.check(found.uri)
            except failures.BadUri as error:
                odd.append(str(error))
            else:
                yield found


def left_out(odd: list[str]) -> list[str]:
    """Return what a person should know of the files left out."""
    return [f"{len(odd)} files are left out for their names, the first: {odd[0]}"] if odd else []
