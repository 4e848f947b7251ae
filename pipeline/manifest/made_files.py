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
        self._is_marked, self._has_stems = functools.cache(_is_marked), functools.cache(has_stems)

    @functools.cached_property
    def _is_below(self) -> str:
        """Kind of the files in the listed folder: `made` or `maybe` if an OUT or export holds it, else empty."""
        is_local = uris.is_local(self._folder)
        path = os.path.realpath(self._folder.removeprefix("file://")) if is_local else self._folder
        above, last, kind = path.split("/"), "", ""
        while above and kind != "made":
            folder = "/".join(above)
            is_in_folder_of_out = (last in _MADE or last == SEP) and self._is_marked(folder)
            if is_in_folder_of_out or self._has_stems(folder):
                self.outs.add("" if folder == path else folder)
                kind = "made" if is_in_folder_of_out or folder.endswith(stem_paths.OUT_SUFFIX) else "maybe"
            last = above.pop()
        return kind

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
        if is_in_folder_of_out or self._is_stem_in_out(components):
            return True
        return self._is_below == "made" or (self._is_below == "maybe" and stem_paths.may_be_stem(components[-1]))

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


def has_stems(folder: str) -> bool:
    """Return whether a folder is an OUT that has, or whose name in `.stems` permits it to have, its stems in itself."""
    uri = f"{folder}/{SEP}/{MARKS[0]}"
    try:
        if not storage.exists(uri):
            return False
        settings = json.loads(storage.read(uri))["settings"]
        return folder.endswith(stem_paths.OUT_SUFFIX) or str(settings.get("filename", "")).startswith(stem_paths.IN_OUT)
    except (errors.TrackError, ValueError, LookupError, TypeError, AttributeError):
        return False
