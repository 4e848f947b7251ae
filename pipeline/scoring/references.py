"""The true stems of a track, and the sums of them that its stems are scored against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VOCALS, ACCOMPANIMENT = "vocals", "accompaniment"


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
        if stem in self.stems:
            return Recipe(stem, {self.stems[stem]: 1.0})
        if stem != ACCOMPANIMENT:
            return None
        others = {name: uri for name, uri in self.stems.items() if name != VOCALS}
        if others and self.is_complete:
            return Recipe(" + ".join(others), dict.fromkeys(others.values(), 1.0))
        return Recipe("mix - vocals", {self.mix: 1.0, self.stems[VOCALS]: -1.0}) if VOCALS in self.stems else None


@dataclass(frozen=True)
class Recipe:
    """A reference as a sum of files.

    Attributes:
        text: Description, as `drums + bass + other`.
        gains: Gain of each file, by its URI.
    """

    text: str
    gains: Mapping[str, float]
