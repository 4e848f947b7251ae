"""Files that sep-batch made: they lie in folders of an OUT or an export, beside the file that marks it.

Where an OUT has its stems in itself, they may precede the mark in a listing. Storage is then asked for marks, but not of every
folder: such an OUT has a name that ends in `.stems`, or stems with names that are common.
"""

from __future__ import annotations

import functools
import json
import os
import re

from sep_batch.pipeline import errors, stem_paths, storage
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
        self._is_marked, self._has_stems = functools.cache(_is_marked), functools.cache(_has_stems)

    @functools.cached_property
    def _is_below(self) -> bool:
        """True if the listed folder itself lies in an OUT's folder of stems, or an export's of a split; links are followed."""
        is_local = uris.is_local(self._folder)
        path = os.path.realpath(self._folder.removeprefix("file://")) if is_local else self._folder
        *above, last = path.split("/")
        if self._has_stems(path):
            self.outs.add("")
            return True
        while above:
            folder = "/".join(above)
            if ((last in _MADE or last == SEP) and self._is_marked(folder)) or self._has_stems(folder):
                self.outs.add(folder)
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
        is_in_folder_of_out = any(self._is_out("/".join(components[:depth])) for depth in made)
        return is_in_folder_of_out or self._is_stem_in_out(components) or self._is_below

    def _is_stem_in_out(self, components: list[str]) -> bool:
        """Return whether a file lies in an OUT that has its stems in itself."""
        may_be_stem = stem_paths.may_be_stem(components[-1])
        for depth in range(1, len(components)):
            inside = "/".join(components[:depth])
            is_named_so = inside.endswith(stem_paths.OUT_SUFFIX)
            if (may_be_stem or is_named_so) and self._has_stems(f"{self._folder}/{inside}"):
                self.outs.add(inside)
                return True
        return False

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


def _has_stems(folder: str) -> bool:
    """Return whether a folder is an OUT that has its stems in itself; False if its run.json cannot be read."""
    uri = f"{folder}/{SEP}/{MARKS[0]}"
    try:
        settings = json.loads(storage.read(uri))["settings"] if storage.exists(uri) else {}
        return str(settings.get("filename", "")).startswith(stem_paths.IN_OUT)
    except (errors.TrackError, ValueError, LookupError, TypeError, AttributeError):
        return False
