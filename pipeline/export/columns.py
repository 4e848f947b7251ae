"""Names of the manifest's columns in a dataset: the same in every format, and none that is a format's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sep_batch.pipeline.export.settings import MIX

PREFIX = "manifest_"
OF_AN_EXCERPT = ("key", "id", "start_s", "seconds", "sample_rate_hz")  # columns that every format has
OF_LHOTSE = ("track", "recording")  # the id of the track, and what `cut.load_audio` loads


def active(stem: str) -> str:
    """Return the name of the column with a stem's active share of an excerpt."""
    return f"{stem}_active"


def reserved(stems: Iterable[str]) -> frozenset[str]:
    """Return the names of the formats' own columns, in lower case, since readers such as DuckDB ignore case.

    Args:
        stems: Stems of the export.
    """
    of_stems = (name for stem in (*stems, MIX) for name in (stem, active(stem), f"load_{stem}"))  # cut.load_vocals()
    return frozenset(name.lower() for name in (*OF_AN_EXCERPT, *OF_LHOTSE, *of_stems))


def renamed(names: Sequence[str], reserved: frozenset[str]) -> dict[str, str]:
    """Return each column's name in the dataset: its own, or a new one if that is reserved; no two are equal.

    Args:
        names: The manifest's columns in the index; no two differ in case alone.
        reserved: Result of `reserved`.
    """
    taken = {name.lower() for name in names} | reserved
    new_names = {}
    for name in names:
        new = name
        if name.lower() in reserved:
            new = PREFIX + name
            while new.lower() in taken:
                new = PREFIX + new
            taken.add(new.lower())
        new_names[name] = new
    return new_names
