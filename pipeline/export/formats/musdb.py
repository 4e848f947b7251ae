"""MUSDB18-HQ's layout: for each track a folder `Artist - Title` with `mixture.wav`, and its four stems beside it."""

from __future__ import annotations

from pathlib import Path

from sep_batch.pipeline.export.formats.base import Excerpt, ShardFolder
from sep_batch.pipeline.export.settings import MIX


class Folders:
    """Writes one shard: some tracks' folders."""

    def __init__(self, shard: ShardFolder) -> None:
        self._shard, self._files = shard, dict[str, Path]()

    def add(self, excerpt: Excerpt) -> None:
        """Add the next track."""
        for stem, content in excerpt.cut.audio.items():
            path = self._shard.path(f"{len(self._files)}.wav")
            path.write_bytes(content)
            self._files[f"{self._shard.split}/{excerpt.name}/{'mixture' if stem == MIX else stem}.wav"] = path

    def close(self) -> dict[str, Path]:
        """Return the files, by their paths in DEST, each track's mixture last."""
        return self._files
