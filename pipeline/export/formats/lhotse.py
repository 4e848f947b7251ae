"""Lhotse Shar: a shard is `cuts.<n>.jsonl.gz`, and a tar file per stem beside it; `CutSet.from_shar` reads them together.

A cut is an excerpt; `cut.load_vocals()` gives its vocals, and `cut.load_audio()` the mix, if it is exported.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

from lhotse import MonoCut, MultiCut, Recording
from lhotse.shar.writers.tar import TarWriter

from sep_batch.pipeline.export.formats.base import Excerpt, ShardFolder, plain
from sep_batch.pipeline.export.settings import MIX

_OBJECTS = ({"width"}, {"array"}, {"storage_type"}, {"id", "sources", "sampling_rate"})  # keys of fields that Lhotse converts
FIELD = "recording"  # Shar's name of the field that `cut.load_audio` loads


class Shar:
    """Writes one shard."""

    def __init__(self, shard: ShardFolder) -> None:
        self._shard, self._cuts = shard, list[dict[str, Any]]()
        self._fields = {name: FIELD if name == MIX else name for name in shard.settings.waves}
        self._tars = {name: TarWriter(str(shard.path(f"{name}.tar")), shard_size=None) for name in self._fields}

    def add(self, excerpt: Excerpt) -> None:
        """Add the next excerpt."""
        cut, settings = excerpt.cut, self._shard.settings
        channels = [0] if settings.mono else [0, 1]
        samples = round(cut.seconds * cut.rate_hz)
        held = {"type": "shar", "channels": channels, "source": ""}
        facts = {"id": excerpt.key, "sampling_rate": cut.rate_hz, "num_samples": samples, "duration": samples / cut.rate_hz}
        recording = Recording.from_dict({"sources": [held], "channel_ids": channels, **facts}).to_dict()
        for name, content in cut.audio.items():
            self._tars[name].write(f"{excerpt.key}.{settings.codec}", io.BytesIO(content))
            self._tars[name].write(f"{excerpt.key}.json", io.BytesIO(json.dumps(recording).encode()), count=False)
        stems = {field: recording for field in self._fields.values() if field != FIELD}
        described = {name: value for name, value in excerpt.described().items() if name not in ("key", "id")}
        extra = {name: _custom(value) for name, value in plain(dict(excerpt.extra) | described).items()}
        custom = extra | {"track": excerpt.track} | stems
        kind = MonoCut if settings.mono else MultiCut
        self._cuts.append(
            {
                "id": excerpt.key,
                "start": 0,
                "duration": recording["duration"],
                "channel": 0 if settings.mono else channels,
                **({"recording": recording} if MIX in self._fields else {}),
                "custom": custom,
                "type": kind.__name__,
            }
        )

    def close(self) -> dict[str, Path]:
        """End the shard; return its files, by their paths in DEST, the cuts last."""
        for tar in self._tars.values():
            tar.close()
        path = self._shard.path("cuts.jsonl.gz")
        with path.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as lines:
            lines.writelines(json.dumps(cut).encode() + b"\n" for cut in self._cuts)
        split, number = self._shard.split, f"{self._shard.number:06d}"
        tars = {f"{split}/{self._fields[name]}.{number}.tar": self._shard.path(f"{name}.tar") for name in self._tars}
        return tars | {f"{split}/cuts.{number}.jsonl.gz": path}


def _custom(value: Any) -> Any:
    """Return a value that Lhotse reads back as it is; a struct that it would take for an object becomes JSON text."""
    is_object = isinstance(value, dict) and any(names <= value.keys() for names in _OBJECTS)
    return json.dumps(value) if is_object else value
