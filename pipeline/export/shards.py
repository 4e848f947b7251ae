"""One shard of an export: its tracks are read and cut, written to scratch, and put whole. The result is one row.

If a track fails, its shard is written without it, and the row names it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.export.cutting import Cut, cuts
from sep_batch.pipeline.export.formats.base import Excerpt, ShardFolder, Writer
from sep_batch.pipeline.export.formats.choose import writer
from sep_batch.pipeline.export.settings import Export
from sep_batch.pipeline.storage.retries import write_error

FILE = pa.struct([("path", pa.string()), ("bytes", pa.int64()), ("sha256", pa.string())])
FAILED = pa.struct(
    [
        ("id", pa.string()),
        ("error_class", pa.string()),
        ("error_stage", pa.string()),
        ("error", pa.string()),
        ("transient", pa.bool_()),
    ]
)
SHARD = pa.schema(
    [
        ("split", pa.string()),
        ("shard", pa.int64()),
        ("excerpts", pa.int64()),
        ("tracks", pa.int64()),  # with at least one excerpt
        ("seconds", pa.float64()),  # of each stem
        ("active_s", pa.map_(pa.string(), pa.float64())),  # active seconds by stem, where known
        ("files", pa.list_(FILE)),  # paths in DEST
        ("left_out", pa.int64()),  # excerpts that were read, in which a stem is not active enough
        ("failed", pa.list_(FAILED)),  # tracks that are missing because of an error
        ("unusable", pa.string()),  # reason why storage cannot be used; the row is then no commit
    ]
)
_EMPTY = {"excerpts": 0, "tracks": 0, "seconds": 0.0, "active_s": [], "files": [], "left_out": 0, "failed": [], "unusable": None}


def make_shard(planned: Mapping[str, Any], export: Export) -> dict[str, Any]:
    """Write one shard.

    Args:
        planned: A row of the plan.
        export: Settings and paths of the export.

    Returns:
        A row of `SHARD`.
    """
    row = _EMPTY | {"split": planned["split"], "shard": planned["shard"]}
    try:
        with tempfile.TemporaryDirectory(dir=_scratch(export)) as folder:
            shard = _writer(Path(folder), planned["split"], planned["shard"], export)
            failed = [fault for track in planned["tracks"] if (fault := _add(track, shard, export, row))]
            files = shard.close()
            if failed and not row["excerpts"]:  # an earlier try may have left files
                for path in files:
                    storage.remove(f"{export.dest}/{path}")
            return row | {"failed": failed, "files": _put(files, export.dest) if row["excerpts"] else []}
    except Exception as error:  # noqa: BLE001 (a failure is a row)
        mapped = write_error(export.scratch, error)  # the disk of scratch may be full, too
        if isinstance(mapped, errors.StorageUnusable):
            return _EMPTY | {"split": row["split"], "shard": row["shard"], "unusable": str(mapped)}
        return lost(planned, mapped)


def lost(planned: Mapping[str, Any], error: Exception) -> dict[str, Any]:
    """Return the row of a shard that could not be written: all its tracks failed."""
    failed = [_fault(track["id"], error, "write") for track in planned["tracks"]]
    return _EMPTY | {"split": planned["split"], "shard": planned["shard"], "failed": failed}


def _add(track: Mapping[str, Any], shard: Writer, export: Export, row: dict[str, Any]) -> dict[str, Any] | None:
    """Add a track to a shard; if it fails, add nothing of it and return the fault."""
    try:
        excerpts_of_track = list(cuts(track, export))
    except errors.StorageUnusable:
        raise
    except Exception as error:  # noqa: BLE001 (a failure is a row)
        return _fault(track["id"], error, "decode")
    for cut in excerpts_of_track:
        shard.add(Excerpt(_key(track["id"], cut), track["id"], track.get("name") or "", cut, track.get("extra") or {}))
    active = dict(row["active_s"])
    for cut in excerpts_of_track:
        for stem, share in cut.active.items():
            active[stem] = active.get(stem, 0.0) + (share or 0.0) * cut.seconds
    row |= {
        "excerpts": row["excerpts"] + len(excerpts_of_track),
        "tracks": row["tracks"] + bool(excerpts_of_track),
        "seconds": row["seconds"] + sum(cut.seconds for cut in excerpts_of_track),
        "active_s": sorted(active.items()),
        "left_out": row["left_out"] + max(0, len(track["numbers"]) - len(excerpts_of_track)),
    }
    return None


def fill_empty_splits(export: Export, excerpts: Mapping[tuple[str, int], int]) -> None:
    """Write one empty shard in each split without excerpts, so that the format's library can open it.

    Args:
        export: Settings and paths of the export.
        excerpts: Number of excerpts of every shard that is done, by split and number.
    """
    for split in (name for name, share in export.settings.splits.items() if share):
        if excerpts.get((split, 0)):
            continue
        with tempfile.TemporaryDirectory(dir=_scratch(export)) as folder:
            files = _writer(Path(folder), split, 0, export).close()
            if any(number for (name, _), number in excerpts.items() if name == split):  # an earlier try may have left it empty
                for path in files:
                    storage.remove(f"{export.dest}/{path}")
            else:
                _put({path: file for path, file in files.items() if file.exists()}, export.dest)


def _scratch(export: Export) -> str:
    Path(export.scratch).mkdir(parents=True, exist_ok=True)
    return export.scratch


def _writer(folder: Path, split: str, number: int, export: Export) -> Writer:
    extra = pa.ipc.read_schema(pa.py_buffer(export.extra))
    return writer(ShardFolder(folder, split, number, export.settings, extra))


def _key(name: str, cut: Cut) -> str:
    return name if cut.number is None else f"{name}-{cut.number:05d}"


def _fault(name: str, error: Exception, stage: str) -> dict[str, Any]:
    description = errors.describe(error, stage)
    return {"id": name} | {field.name: description[field.name] for field in FAILED if field.name != "id"}


def _put(files: Mapping[str, Path], dest: str) -> list[dict[str, Any]]:
    """Put a shard's files; return their paths, sizes and checksums."""
    described = []
    for path, file in files.items():
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        described.append({"path": path, "bytes": file.stat().st_size, "sha256": digest})
        storage.put_file(f"{dest}/{path}", file)
    return described
