"""Patterns of `--include` and `--exclude`: file names, in the syntax of .gitignore."""

from __future__ import annotations

from collections.abc import Sequence

from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris


class Patterns:
    """Patterns that choose files of a folder, a prefix or an inventory.

    Attributes:
        include: Patterns of which a file has to match one; without any, its extension decides.
        exclude: Patterns of which a file may match none.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        """Read the patterns.

        Raises:
            UsageError: One of them is invalid, or is in both lists.
        """
        self.include, self.exclude = tuple(include), tuple(exclude)
        self._include = {pattern: _compiled("--include", pattern) for pattern in self.include}
        self._exclude = {pattern: _compiled("--exclude", pattern) for pattern in self.exclude}
        if both := [pattern for pattern in self.include if pattern in self._exclude]:
            raise errors.UsageError(f"--include and --exclude {uris.printable(both[0])}: given in both; give it in one of them")
        self._unmatched = {("--include", pattern) for pattern in self.include}
        self._unmatched |= {("--exclude", pattern) for pattern in self.exclude}

    def __bool__(self) -> bool:
        """Return whether there is any pattern."""
        return bool(self.include or self.exclude)

    @property
    def flags(self) -> str:
        """The flags that were given, for a message."""
        return " and ".join(flag for flag, patterns in (("--include", self.include), ("--exclude", self.exclude)) if patterns)

    def leave_out(self, path: str) -> bool:
        """Return whether the patterns leave a file out.

        Args:
            path: Path relative to the listed folder, with / between folders.
        """
        for flag, pattern in list(self._unmatched):
            if (self._include if flag == "--include" else self._exclude)[pattern].match_file(path):
                self._unmatched.discard((flag, pattern))
        if self._include and not any(pattern.match_file(path) for pattern in self._include.values()):
            return True
        return any(pattern.match_file(path) for pattern in self._exclude.values())

    def unmatched(self) -> list[str]:
        """Return a warning for each pattern that no file has matched so far."""
        return [f"{flag} {uris.printable(pattern)}: matches no file" for flag, pattern in sorted(self._unmatched)]

    def refuse(self, sentence: str) -> None:
        """Refuse patterns for a source that is not listed.

        Args:
            sentence: The source and its kind, as a sentence's beginning: "songs.csv is a manifest, which names its rows".

        Raises:
            UsageError: There are patterns.
        """
        if self:
            raise errors.UsageError(f"{self.flags}: {sentence}; patterns choose files of a folder, a prefix or an S3 Inventory")


def _compiled(flag: str, text: str) -> GitIgnoreSpecPattern:
    """Compile a pattern; unlike in a .gitignore, # or ! at its beginning means the character itself."""
    try:
        pattern = GitIgnoreSpecPattern(f"\\{text}" if text.startswith(("#", "!")) else text)
    except GitIgnorePatternError:
        pattern = None
    if pattern is None or pattern.include is None:
        raise errors.UsageError(f"{flag} '{uris.printable(text)}': not a pattern; expected one such as '*.flac' or 'live/**'")
    return pattern
