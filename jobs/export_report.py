"""What an export did, and what a person is told of it."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sep_batch.pipeline import failures
from sep_batch.pipeline.export.journal import Done
from sep_batch.pipeline.export.verified import SourceChanged

SHOWN = 20  # failed tracks


@dataclass
class Exported:
    """What an export did, and the exit code that says so.

    Attributes:
        out, dest, to: From where, where to, and in which form.
        tracks: Of the index, that were chosen.
        planned: Excerpts of them, or whole tracks, that the index lets in.
        shards: That these are laid out in.
        done_before: Of them, those that were done already.
        written: Of them, those that were written now.
        excerpts: That DEST holds, by split.
        seconds: Of audio, of each stem, that was written now.
        took_s: What writing took, the start of Ray included.
        failed: Tracks that are not in DEST, or not whole, though they should be, by class, each once.
        first_failed: The first of them: id, class, and what was found.
        warnings: What a person should know.
        stopped: Why it ended early, if it did.
    """

    out: str
    dest: str
    to: str
    tracks: int = 0
    planned: int = 0
    shards: int = 0
    done_before: int = 0
    written: int = 0
    excerpts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    took_s: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)
    first_failed: list[dict[str, str]] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    stopped: str | None = None
    exit_code: int = 0
    _failed: set[str] = field(default_factory=set)

    def take(self, row: Mapping[str, Any]) -> None:
        """Count a shard that was written now."""
        self.written += 1
        self.seconds += row["seconds"]
        for fault in row["failed"]:
            if fault["id"] in self._failed:
                continue
            self._failed.add(fault["id"])
            self.failed[fault["error_class"]] += 1
            if len(self.first_failed) < SHOWN:
                self.first_failed.append({name: fault[name] for name in ("id", "error_class", "error")})

    def end(self, done: Mapping[tuple[str, int], Done]) -> None:
        """Count what DEST holds, and say how it went."""
        excerpts: Counter[str] = Counter()
        for (split, _), shard in sorted(done.items()):
            excerpts[split] += shard.excerpts
        self.excerpts = dict(excerpts)
        if self.stopped:
            self.exit_code = failures.STOPPED
        elif self.failed:
            self.exit_code = failures.SOME_FAILED

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps({name: value for name, value in vars(self).items() if not name.startswith("_")})

    def words(self) -> Iterator[str]:
        """Return it for a person, a line each."""
        held = ", ".join(f"{number:,} {split}" for split, number in self.excerpts.items()) or "nothing"
        yield f"{self.tracks:,} tracks chosen, {self.planned:,} excerpts or tracks planned in {self.shards:,} shards"
        speed = self.seconds / self.took_s if self.took_s else 0.0
        yield (
            f"{self.written:,} shards written, {self.done_before:,} done before; "
            f"{self.seconds / 3600:.2f} h of each stem in {self.took_s:.1f} s = {speed:.1f} x real time"
        )
        yield f"{self.dest} holds, as {self.to}: {held}"
        if self.failed:
            counts = ", ".join(f"{number} {name}" for name, number in self.failed.most_common())
            yield f"failed tracks, which are not in it, or not whole: {counts}; the same command again tries them again"
            yield from (f"  {one['id']}: {one['error_class']}: {_last(one['error'])}" for one in self.first_failed)
            yield from self._next()
        if self.stopped:
            yield self.stopped

    def _next(self) -> Iterator[str]:
        """Say what helps failed tracks."""
        if self.failed.keys() - {SourceChanged.error_class}:
            yield f"next: sep-batch verify {shlex.quote(self.out)}"
        if self.failed[SourceChanged.error_class]:
            yield "next: sep-batch run of the folder, or of a manifest made anew, to separate changed sources again; then this command"


def _last(text: str) -> str:
    """Return of a traceback what it ends with."""
    return text.strip().rpartition("\n")[2]
