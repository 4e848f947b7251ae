"""Result of an export, as text and JSON."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sep_batch.jobs.setup.units import audio_length, tracks
from sep_batch.pipeline import errors
from sep_batch.pipeline.export.excerpts import Amounts
from sep_batch.pipeline.export.journal import Done
from sep_batch.pipeline.export.settings import ExportSettings
from sep_batch.pipeline.export.verified import SourceChanged

SHOWN = 20  # failed tracks that are listed
_NOT_IN_JSON = ("amounts", "settings", "in_index", "ok_in_index")


@dataclass
class Exported:
    """Result and exit code of an export.

    Attributes:
        out: OUT.
        dest: DEST.
        to: Format of the dataset.
        amounts: Amounts that were chosen and planned.
        settings: Settings of the export.
        in_index: Number of tracks in the index.
        ok_in_index: Number of ok tracks among them.
        done_before: Number of shards that were done already.
        written: Number of shards that were written now.
        excerpts: Number of excerpts or tracks in DEST, by split.
        seconds: Seconds of audio of each stem that were written now.
        took_s: Seconds that writing took, including the start of Ray.
        failed: Number of tracks that failed and are missing or incomplete in DEST, by class; each track counts once.
        first_failed: Id, class and error of the first `SHOWN` of them.
        warnings: Warnings, a line each.
        left_out: Lines about tracks and excerpts that are not in DEST although they did not fail, and about empty splits.
        stopped: Reason why the export ended early, None otherwise.
        exit_code: Exit code of the command.
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
        """Count what DEST holds, and set the exit code and the lines about what was left out."""
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
        """Number of shards of the export."""
        return self.amounts.shards

    def to_json(self) -> str:
        """Return the result as one line of JSON."""
        fields = {name: value for name, value in vars(self).items() if not name.startswith("_") and name not in _NOT_IN_JSON}
        amounts = {name: getattr(self.amounts, name) for name in ("tracks", "planned", "shards")}
        return json.dumps(amounts | fields)

    def words(self) -> Iterator[str]:
        """Yield the lines of the result."""
        excerpts = ", ".join(f"{number:,} {split}" for split, number in self.excerpts.items()) or "nothing"
        amounts = self.amounts
        yield f"{tracks(amounts.tracks)} chosen, {amounts.planned:,} excerpts or tracks planned in {amounts.shards:,} shards"
        speed = self.seconds / self.took_s if self.took_s else 0.0
        yield (
            f"{self.written:,} shards written, {self.done_before:,} done before; "
            f"{audio_length(self.seconds)} of each stem in {self.took_s:.1f} s = {speed:.1f} x real time"
        )
        yield f"{self.dest} holds, as {self.to}: {excerpts}"
        yield from self.left_out
        if self.failed:
            counts = ", ".join(f"{number} {name}" for name, number in self.failed.most_common())
            yield f"failed tracks, missing or incomplete in DEST: {counts}; run the same command again to retry them"
            yield from (
                f"  {track['id']}: {track['error_class']}: {errors.last_line(track['error'])}" for track in self.first_failed
            )
            yield from self._next()
        if self.stopped:
            yield self.stopped

    def _left_out(self, quiet: int) -> Iterator[str]:
        """Yield lines about tracks and excerpts that are not in DEST, with the reasons.

        Args:
            quiet: Number of excerpts that were read and are not active enough.
        """
        amounts, settings = self.amounts, self.settings
        if not amounts.tracks:
            where = f", none of which satisfies --where {settings.where}" if settings.where and self.ok_in_index else ""
            yield f"no track is chosen: the index of OUT has {tracks(self.in_index)}, {self.ok_in_index:,} of them ok{where}"
            return
        if settings.excerpt_s is not None and amounts.short == amounts.tracks:
            yield f"no track is as long as {settings.excerpt_s:g} s: the longest has {amounts.longest_s:.1f} s"
            return
        if amounts.short:
            yield f"{amounts.short:,} of {tracks(amounts.tracks)} left out: shorter than {settings.excerpt_s:g} s"
        if settings.min_active and (left := amounts.excerpts - amounts.planned + quiet):
            active = " or ".join(f"{stem} active below {share:g}" for stem, share in settings.min_active.items())
            yield f"{left:,} of {amounts.excerpts:,} excerpts left out: {active}"
        for split, share in settings.splits.items():
            if share and any(self.excerpts.values()) and not self.excerpts.get(split):
                yield f"split {split} is empty: its share is {share:g} of {amounts.tracks:,} tracks; try another --seed"

    def _next(self) -> Iterator[str]:
        """Yield the next commands for failed tracks."""
        if self.failed.keys() - {SourceChanged.error_class}:
            yield f"next: sep-batch verify {shlex.quote(self.out)}"
        if self.failed[SourceChanged.error_class]:
            yield "next: sep-batch run with the folder, or with a manifest made again: it separates changed sources again"
