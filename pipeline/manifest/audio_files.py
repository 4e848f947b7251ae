"""Audio files of a folder, prefix or inventory, and counts of all others, which are reported."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.audio.kinds import EXTENSIONS
from sep_batch.pipeline.manifest.formats import is_table
from sep_batch.pipeline.manifest.made_files import MadeFiles
from sep_batch.pipeline.manifest.patterns import Patterns
from sep_batch.pipeline.storage import Info, Skipped, uris

AUDIO_EXTENSIONS = tuple(chain.from_iterable(EXTENSIONS.values()))
SHOWN_EXTENSIONS = 8
SHOWN_FILES = 3
MOST_EXTENSIONS = 1000  # that are counted separately
_IS_AUDIO = frozenset(AUDIO_EXTENSIONS)
_EXTENSION = re.compile(r"\.[a-z0-9_+-]{1,12}")
_MARKERS = ("/", "_$folder$")  # ends of the names of objects that mark a folder
_SYSTEM = frozenset(("lost+found", "System Volume Information", "$RECYCLE.BIN", "@eaDir"))  # folders of systems, without songs
_TABLES = (  # table formats whose log says which of the files count
    (re.compile(r"(?:^|/)_delta_log/"), "a Delta Lake table"),
    (re.compile(r"(?:^|/)\.hoodie/"), "a Hudi table"),
    (re.compile(r"(?:^|/)metadata/[^/]*\.metadata\.json$"), "an Iceberg table"),
)


def extension(uri: str) -> str:
    """Return the extension of a URI's name, lower case and with its dot; empty if it has none."""
    dot = uris.name(uri).rfind(".")
    return uris.name(uri)[dot:].lower() if dot >= 0 else ""


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, as `1 file`, `2 files`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


class AudioFiles:
    """Selects the audio files of a listing, and counts the others.

    Attributes:
        folder: The folder, prefix or bucket that is listed.
        manifests: Manifest files of the listing; only the first ones if it has audio.
        manifest_count: Number of its manifest files.
        table: Format of the table that the folder is, as "a Delta Lake table"; empty if it is none.
        unread: Folders on a disk that could not be read.
    """

    def __init__(
        self, folder: str, patterns: Patterns | None = None, *, with_manifests: bool = False, is_whole: bool = True
    ) -> None:
        """Begin with nothing listed.

        Args:
            folder: Folder that is listed.
            patterns: Patterns that choose its files; by default the extensions of audio do.
            with_manifests: Keep the manifest files too, instead of counting them among the others.
            is_whole: True if the listing has every file of the folder; a glob's has not.
        """
        self.folder, self._patterns, self._with_manifests = folder, patterns or Patterns(), with_manifests
        self.manifests, self.manifest_count, self.table, self.unread = list[Info](), 0, "", list[str]()
        self._has_audio = False
        self._others, self._hidden, self._excluded = Counter[str](), 0, 0
        self._private, self._first_private = 0, ""
        self._made, self._ours = MadeFiles(folder, is_whole=is_whole), 0
        self._skipped, self._first_skipped = Counter[Skipped](), dict[Skipped, str]()
        self._odd, self._first_odd = 0, ""
        self._archived, self._first_archived = 0, ""

    def below(self) -> Iterator[Info]:
        """Yield the audio files below the folder."""
        return self.of(storage.find(self.folder, self._skip))

    def _skip(self, kind: Skipped, path: str) -> None:
        if not set(path.split("/")) & _SYSTEM:
            self._skipped[kind] += 1
            self.unread += [path] * (kind == "unreadable folder")
            self._first_skipped.setdefault(kind, path.removeprefix(self.folder.removeprefix("file://")).lstrip("/"))

    def of(self, listed: Iterable[Info]) -> Iterator[Info]:
        """Yield the audio files of a listing, except those with names that no URI may have."""
        for info in listed:
            inside = info.uri[len(self.folder) :].lstrip("/")
            kind = self.sort(inside)
            if kind == "audio" and not self._is_odd(inside, info.uri):
                self._has_audio = True
                if info.is_archived:
                    self._archived, self._first_archived = self._archived + 1, self._first_archived or info.uri
                yield info
            elif kind == "manifest":
                self.manifests.append(info)
                if self._has_audio:
                    del self.manifests[SHOWN_FILES:]

    def sort(self, inside: str) -> Literal["audio", "manifest", "other"]:
        """Return a file's kind by its name, and count it if it is not listed.

        Args:
            inside: Its path below the folder.
        """
        if not inside or inside.endswith(_MARKERS):
            return "other"
        kind, components = extension(inside), inside.split("/")
        of_table = next((name for sign, name in _TABLES if sign.search(inside)), "") if kind not in _IS_AUDIO else ""
        self.table = self.table or of_table
        is_ours = self._made.is_made(inside)
        if any(component.startswith(".") or component in _SYSTEM for component in components):
            self._hidden += 1
        elif is_ours:
            self._ours += 1
        elif self._patterns and self._patterns.leave_out(inside):
            self._excluded += 1
        elif self._patterns.include or kind in _IS_AUDIO:
            return "audio"
        elif of_table or not self._with_manifests or not is_table(inside):
            self._count_other(kind)
        elif any(component.startswith("_") for component in components):
            self._private, self._first_private = self._private + 1, self._first_private or inside
        else:
            self.manifest_count += 1
            return "manifest"
        return "other"

    def _count_other(self, kind: str) -> None:
        kind = kind if _EXTENSION.fullmatch(kind) else ""
        self._others[kind if kind in self._others or len(self._others) < MOST_EXTENSIONS else ""] += 1

    def _is_odd(self, inside: str, uri: str) -> bool:
        try:
            uris.check(inside)
            uris.check(uri)
        except errors.BadUri as error:
            self._odd, self._first_odd = self._odd + 1, self._first_odd or str(error)
            return True
        return False

    def warnings(self) -> list[str]:
        """Return warnings about files that are left out or archived, a line each."""
        lines = [*self._odd_names(), *self._archived_files()]
        if left_out := [*self._left_out(), *self._hidden_or_excluded()]:
            lines.append(f"left out: {', '.join(left_out)}")
        if self.manifest_count:
            first = self.manifests[0].uri if self.manifests else ""
            lines.append(
                f"{counted(self.manifest_count, 'manifest file')} beside audio, not read: {self._manifest_names()}; "
                f"to run one, name it: sep-batch run {uris.shown(first)}"
            )
        return lines

    def warnings_of_manifests(self) -> list[str]:
        """Return warnings about other files, for a folder without audio whose manifest files are read."""
        return [f"left out: {', '.join(left_out)}"] if (left_out := self._left_out()) else []

    def nothing(self, source: str = "") -> str:
        """Return the message that the listing holds no audio, with counts of what it holds.

        Args:
            source: Source that was listed; by default the folder.
        """
        manifests = [f"{counted(self.manifest_count, 'manifest file')} ({self._manifest_names()})"] * bool(self.manifest_count)
        instead = ", ".join([*manifests, *self._left_out(), *self._hidden_or_excluded(), *self._odd_names()])
        hint = ["--include '*.EXT' lists files of another extension"] if self._others and not self._patterns else []
        nothing = f"found no audio in {uris.shown(source or self.folder)}: {instead or 'no files'}"
        return "; ".join([nothing, *hint, *self._patterns.unmatched()])

    def _left_out(self) -> list[str]:
        lines = []
        if self._others:
            lines.append(f"{counted(self._others.total(), 'other file')} ({self._by_extension()})")
        if self._private:
            first = uris.printable(self._first_private, 60) + ", ..." * (self._private > 1)
            lines.append(f"{counted(self._private, 'manifest file')} with a name or folder that begins with _ ({first})")
        return lines

    def _by_extension(self) -> str:
        common = self._others.most_common(SHOWN_EXTENSIONS)
        rest = self._others.total() - sum(count for _, count in common)
        return ", ".join(f"{kind or 'no extension'} {count:,}" for kind, count in common) + f", others {rest:,}" * bool(rest)

    def _hidden_or_excluded(self) -> list[str]:
        hidden = [counted(self._hidden, "hidden file")] * bool(self._hidden)
        if self._ours:
            first = uris.printable(min(self._made.outs, default="") or self.folder, 60)
            hidden.append(
                f"{counted(self._ours, 'file')} that sep-batch wrote (in {first}{', ...' * (len(self._made.outs) > 1)})"
            )
        for kind, count in self._skipped.items():
            first = uris.printable(self._first_skipped[kind], 60)
            hidden.append(f"{counted(count, kind)} ({first}{', ...' * (count > 1)})")
        excluded = f"{counted(self._excluded, 'file')} by {self._patterns.flags}"
        return hidden + [excluded] * bool(self._excluded)

    def _odd_names(self) -> list[str]:
        return [f"left out: {counted(self._odd, 'file')} with an invalid name, the first: {self._first_odd}"] if self._odd else []

    def _archived_files(self) -> list[str]:
        """Return a warning with the number of audio files in an archive."""
        files, first = counted(self._archived, "audio file"), uris.shown(self._first_archived)
        line = f"{files} in an archive (Glacier, Deep Archive, Azure's archive tier), the first: {first}; unless they are "
        return [f"{line}restored first, they fail as archived"] if self._archived else []

    def _manifest_names(self) -> str:
        shown = [uris.printable(info.uri[len(self.folder) :].lstrip("/"), 60) for info in self.manifests[:SHOWN_FILES]]
        return ", ".join(shown) + ", ..." * (self.manifest_count > SHOWN_FILES)
