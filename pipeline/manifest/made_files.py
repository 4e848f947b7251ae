"""Files that sep-batch made: they lie in folders of an OUT or an export, beside the file that marks it."""

from __future__ import annotations

import functools
import os
import re

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import uris

SEP = "_sep"  # the folder that marks an OUT, or an export
MARKS = ("run.json", "export.json")
_MARK = re.compile(rf"(?:(.*)/)?{SEP}/(?:run|export)\.json")
_MADE = frozenset(("stems", "train", "validation", "test"))  # their folders of audio; all sort after `_sep`


class MadeFiles:
    """Recognises the files of a listing that sep-batch made.

    Attributes:
        outs: OUTs and exports in the listing: paths below the folder, or absolute URIs above it.
    """

    def __init__(self, folder: str, *, is_whole: bool) -> None:
        """Begin with nothing listed.

        Args:
            folder: Folder that is listed.
            is_whole: True if the listing has every file, ordered by name, so that a mark precedes the files that it marks;
                otherwise storage is asked for marks.
        """
        self.outs = set[str]()
        self._folder, self._is_whole = folder, is_whole
        self._is_marked = functools.cache(_is_marked)

    @functools.cached_property
    def _is_below(self) -> bool:
        """True if the listed folder itself lies in an OUT's folder of stems, or an export's of a split; links are followed."""
        is_local = uris.is_local(self._folder)
        path = os.path.realpath(self._folder.removeprefix("file://")) if is_local else self._folder
        *above, last = path.split("/")
        while above:
            if (last in _MADE or last == SEP) and self._is_marked("/".join(above)):
                self.outs.add("/".join(above))
                return True
            last = above.pop()
        return False

    def is_made(self, inside: str) -> bool:
        """Return whether a file was made by a run or an export.

        Args:
            inside: Its path below the folder.
        """
        if mark := _MARK.fullmatch(inside):
            self.outs.add(mark[1] or "")
        components = inside.split("/")
        if SEP in components[:-1]:
            return True
        made = [depth for depth, name in enumerate(components[:-1]) if name in _MADE]
        made += [len(components) - 1] * (components[-1] == "index.parquet")
        return any(self._is_out("/".join(components[:depth])) for depth in made) or self._is_below

    def _is_out(self, inside: str) -> bool:
        if inside not in self.outs and not self._is_whole and self._is_marked(f"{self._folder}/{inside}".rstrip("/")):
            self.outs.add(inside)
        return inside in self.outs


def _is_marked(folder: str) -> bool:
    """Return whether a folder is an OUT or an export; False if it cannot be read."""
    try:
        return any(storage.exists(f"{folder}/{SEP}/{mark}") for mark in MARKS)
    except errors.TrackError:
        return False
