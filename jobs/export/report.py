"""The result of an export, in words and as JSON."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sep_batch.pipeline import errors
from sep_batch.pipeline.export.excerpts import Amounts
from sep_batch.pipeline.export.journal import Done
from sep_batch.pipeline.export.settings import ExportSettings
from sep_batch.pipeline.export.verified import SourceChanged

SHOWN = 20  # failed tracks
_NOT_TOLD = ("amounts", "settings", "in_index", "ok_in_index")  # in JSON


@dataclass
class Exported:
    """What an export did, and the exit code that says so.

    Attributes:
        out, dest, to: From where, where to, and in which form.
        amounts: How much was chosen and planned.
        settings: Settings of the export.
        in_index, ok_in_index: Tracks of the index, and of these those that are ok.
        done_before: Shards among them that were done already.
        written: Shards among them that were written now.
        excerpts: That DEST holds, by split.
        seconds: Seconds of audio, of each stem, that were written now.
        took_s: Seconds that writing took, the start of Ray included.
        failed: Tracks that are not in DEST, or not whole, though they should be, by class, each once.
        first_failed: The first of them: id, class, and what was found.
        warnings: Warnings, a line each.
        left_out: Which tracks and excerpts are not in DEST for another reason than a failure, and which splits are empty.
        stopped: Why it ended early, if it did.
    """

    out: str
    dest: str
    to: str
    amounts: Amounts
    settings: ExportSettings
    in_index: int = 0
    ok_in_index: int = 0
    done_before: int = 0
    written: int = 0
    excerpts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    took_s: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)
    first_failed: list[dict[str, str]] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
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
            self.exit_code = errors.STOPPED
            return
        self.left_out = tuple(self._left_out(sum(shard.left_out for shard in done.values())))
        if self.failed or not excerpts.total():
            self.exit_code = errors.SOME_FAILED

    @property
    def shards(self) -> int:
        """Shards that the export is laid out in."""
        return self.amounts.shards

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        known = {name: value for name, value in vars(self).items() if not name.startswith("_") and name not in _NOT_TOLD}
        amounts = {name: getattr(self.amounts, name) for name in ("tracks", "planned", "shards")}
        return json.dumps(amounts | known)

    def words(self) -> Iterator[str]:
        """Return it for a person, a line each."""
        held = ", ".join(f"{number:,} {split}" for split, number in self.excerpts.items()) or "nothing"
        amounts = self.amounts
        yield f"{amounts.tracks:,} tracks chosen, {amounts.planned:,} excerpts or tracks planned in {amounts.shards:,} shards"
        speed = self.seconds / self.took_s if self.took_s else 0.0
        yield (
            f"{self.written:,} shards written, {self.done_before:,} done before; "
            f"{self.seconds / 3600:.2f} h of each stem in {self.took_s:.1f} s = {speed:.1f} x real time"
        )
        yield f"{self.dest} holds, as {self.to}: {held}"
        yield from self.left_out
        if self.failed:
            counts = ", ".join(f"{number} {name}" for name, number in self.failed.most_common())
            yield f"failed tracks, which are not in it, or not whole: {counts}; the same command again tries them again"
            yield from (f"  {one['id']}: {one['error_class']}: {_last(one['error'])}" for one in self.first_failed)
            yield from self._next()
        if self.stopped:
            yield self.stopped

    def _left_out(self, quiet: int) -> Iterator[str]:
        """Say what is not in DEST, and why.

        Args:
            quiet: Excerpts that were read and are not active enough.
        """
        amounts, settings = self.amounts, self.settings
        if not amounts.tracks:
            asked = f", none of which satisfies --where {settings.where}" if settings.where and self.ok_in_index else ""
            yield f"no track is chosen: the index of OUT has {self.in_index:,} tracks, {self.ok_in_index:,} of them ok{asked}"
            return
        if settings.excerpt_s is not None and amounts.short == amounts.tracks:
            yield f"no track is as long as {settings.excerpt_s:g} s: the longest has {amounts.longest_s:.1f} s"
            return
        if amounts.short:
            yield f"{amounts.short:,} of {amounts.tracks:,} tracks left out: shorter than {settings.excerpt_s:g} s"
        if settings.min_active and (left := amounts.excerpts - amounts.planned + quiet):
            active = " or ".join(f"{stem} active below {share:g}" for stem, share in settings.min_active.items())
            yield f"{left:,} of {amounts.excerpts:,} excerpts left out: {active}"
        for split, share in settings.splits.items():
            if share and any(self.excerpts.values()) and not self.excerpts.get(split):
                yield f"split {split} is empty: its share is {share:g} of {amounts.tracks:,} tracks; try another --seed"

    def _next(self) -> Iterator[str]:
        """Say what helps failed tracks."""
        if self.failed.keys() - {SourceChanged.error_class}:
            yield f"next: sep-batch verify {shlex.quote(self.out)}"
        if self.failed[SourceChanged.error_class]:
            yield "next: sep-batch run of the folder, or of a manifest made anew: it separates changed sources again"


def _last(text: str) -> str:
    """Return of a traceback what it ends with."""
    return text.strip().rpartition("\n")[2]
