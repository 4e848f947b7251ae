"""The true stems of a track, and the sums of them that its stems are scored against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

VOCALS, ACCOMPANIMENT = "vocals", "accompaniment"
STEM_MP4 = ".stem.mp4"  # a file of five audio streams, as MUSDB18 has for each song
STREAMS = {"mixture": 0, "drums": 1, "bass": 2, "other": 3, VOCALS: 4}  # numbers of its audio streams


class Source(NamedTuple):
    """A file that a reference is made of.

    Attributes:
        uri: URI.
        stream: Number of its audio stream, from 0; None is the one that a run would decode.
    """

    uri: str
    stream: int | None = None

    @classmethod
    def of(cls, uri: str, stem: str) -> Source:
        """Return the source of a stem; in a file of all stems, its stream."""
        return cls(uri, STREAMS.get(stem) if uri.lower().endswith(STEM_MP4) else None)


@dataclass(frozen=True)
class References:
    """References of a track.

    Attributes:
        mix: URI of the mix.
        stems: URI of each true stem, by its name.
        is_complete: No stem that other tracks have a reference of is without one here, so they add up to the mix.
    """

    mix: str
    stems: Mapping[str, str]
    is_complete: bool = True

    def recipe(self, stem: str) -> Recipe | None:
        """Return how a stem's reference is made; None if it has none.

        An accompaniment without a reference of its own is the sum of all references but vocals, else the mix minus vocals.
        """
        sources = {name: Source.of(uri, name) for name, uri in self.stems.items()}
        if stem in sources:
            return Recipe(stem, {sources[stem]: 1.0})
        if stem != ACCOMPANIMENT:
            return None
        others = [name for name in sources if name != VOCALS]
        if others and self.is_complete:
            return Recipe(" + ".join(others), {sources[name]: 1.0 for name in others})
        mix = Source.of(self.mix, "mixture")
        return Recipe("mix - vocals", {mix: 1.0, sources[VOCALS]: -1.0}) if VOCALS in sources else None


@dataclass(frozen=True)
class Recipe:
    """A reference as a sum of files.

    Attributes:
        text: Description, as `drums + bass + other`.
        gains: Gain of each file.
    """

    text: str
    gains: Mapping[Source, float]
