"""Files that sep-batch made: they lie in a folder of an OUT or of an export, beside its mark."""

from __future__ import annotations

import functools
import os
import re

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import uris

SEP = "_sep"  # the folder that marks an OUT, or an export
MARKS = ("run.json", "export.json")
_MARK = re.compile(rf"(?:(.*)/)?{SEP}/(?:run|export)\.json")
_MADE = frozenset(("stems", "train", "validation", "test"))  # folders in which these have their audio; all sort after `_sep`


class MadeFiles:
    """Tells the files of a listing that sep-batch made.

    Attributes:
        outs: OUTs and exports that were seen, below the folder or, as absolute URIs, above it.
    """

    def __init__(self, folder: str, *, is_whole: bool) -> None:
        """Begin with nothing listed.

        Args:
            folder: Folder that is listed.
            is_whole: Whether the listing shows every file, ordered by name, so that marks are seen before what they mark;
                otherwise storage is asked for them.
        """
        self.outs = set[str]()
        self._folder, self._is_whole = folder, is_whole
        self._is_marked = functools.cache(_is_marked)

    @functools.cached_property
    def _is_below(self) -> bool:
        """Whether the listed folder itself lies in an OUT's folder of stems, or an export's of a split; links are followed."""
        is_local = uris.is_local(self._folder)
        path = os.path.realpath(self._folder.removeprefix("file://")) if is_local else self._folder
        *above, last = path.split("/")
        while above:
            if (last in _MADE or last == SEP) and self._is_marked("/".join(above)):
                self.outs.add("/".join(above))
                return True
            last = above.pop()
        return False

    def is_one(self, inside: str) -> bool:
        """Tell whether a file was made by a run or an export.

        Args:
            inside: Its path below the folder.
        """
        if mark := _MARK.fullmatch(inside):
            self.outs.add(mark[1] or "")
        components = inside.split("/")
        if SEP in components[:-1]:
            return True
        made = [place for place, name in enumerate(components[:-1]) if name in _MADE]
        made += [len(components) - 1] * (components[-1] == "index.parquet")
        return any(self._is_out("/".join(components[:place])) for place in made) or self._is_below

    def _is_out(self, inside: str) -> bool:
        if inside not in self.outs and not self._is_whole and self._is_marked(f"{self._folder}/{inside}".rstrip("/")):
            self.outs.add(inside)
        return inside in self.outs


def _is_marked(folder: str) -> bool:
    """Tell whether a folder is an OUT or an export; one that may not be read is taken for none."""
    try:
        return any(storage.exists(f"{folder}/{SEP}/{mark}") for mark in MARKS)
    except errors.TrackError:
        return False
