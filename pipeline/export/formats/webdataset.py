"""WebDataset: a shard is a tar file with `KEY.json` and `KEY.<stem>.<ext>` of each excerpt.

A key ends at its first dot, so an id's dots are written %2E in it. Times, owners and order are fixed: same excerpts, same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import webdataset

from sep_batch.pipeline.export.formats.base import Excerpt, ShardFolder, plain

OWNER = "sep-batch"


class Tar:
    """Writes one shard."""

    def __init__(self, shard: ShardFolder) -> None:
        self._shard, self._path = shard, shard.path("shard.tar")
        self._file = self._path.open("wb")
        owner = {"user": OWNER, "group": OWNER, "mode": 0o444, "mtime": 0}
        self._tar = webdataset.TarWriter(self._file, encoder=False, **owner)

    def add(self, excerpt: Excerpt) -> None:
        """Add the next excerpt."""
        codec = self._shard.settings.codec
        described = plain(dict(excerpt.extra) | excerpt.described())
        files = {f"{stem}.{codec}": content for stem, content in excerpt.cut.audio.items()}
        self._tar.write({"__key__": excerpt.key.replace(".", "%2E"), "json": json.dumps(described).encode(), **files})

    def close(self) -> dict[str, Path]:
        """End the shard; return its file, by its path in DEST."""
        self._tar.close()
        self._file.close()
        return {f"{self._shard.split}/{self._shard.number:06d}.tar": self._path}
