"""Opening of a track's stems and source, after a check against the index.

A stem must have the size and, if it is small enough to be read whole, the sha256 of the index. The source must have the size and
the etag of the index, compared as a plan compares them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import IO, Any

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.export.settings import MIX, Export
from sep_batch.pipeline.storage import uris


class SourceChanged(errors.TrackError):
    """A source that is not the file that was separated."""

    error_class, stage = "source_changed", "fetch"


def opened(name: str, track: Mapping[str, Any], export: Export) -> IO[bytes]:
    """Open a stem or the mix.

    Args:
        name: The stem's, or `MIX`.
        track: Track of a plan's row.
        export: Settings and places of the export.

    Raises:
        NotFound, DecodeError, SourceChanged, BadUri: It is missing, differs from the index, or lies outside OUT.
    """
    if name == MIX:
        source, info = storage.open_source(track["uri"])
        _refuse_another(info, track)
        expected, sha256 = None, None
    else:
        stem = next((stem for stem in track["stems"] if stem["stem"] == name), None)
        if stem is None:
            raise errors.NotFound(f"stem {name}: not in the index, which has {', '.join(s['stem'] for s in track['stems'])}")
        source, info = storage.open_source(_below(export.out, stem["uri"]))
        expected, sha256 = stem["bytes"], stem["sha256"]
    if expected is not None and info.bytes != expected:
        raise errors.DecodeError(f"{uris.shown(info.uri)}: has changed: {info.bytes} bytes, the index says {expected}")
    if sha256 and isinstance(source, io.BytesIO) and hashlib.sha256(source.getbuffer()).hexdigest() != sha256:
        raise errors.DecodeError(f"{uris.shown(info.uri)}: has changed: its sha256 is not that of the index")
    return source


def _refuse_another(info: storage.Info, track: Mapping[str, Any]) -> None:
    """Refuse a source that is not the one that was separated: its mix would belong to another song's stems.

    Raises:
        SourceChanged: Its size or its etag differs.
    """
    size, etag = track["source_bytes"], track.get("source_etag")
    if size is not None and info.bytes != size:
        differs = f"it has {info.bytes} bytes, the index says {size}"
    elif etag is not None and info.etag is not None and not _is_same_etag(etag, info):
        differs = f"its etag is {uris.printable(info.etag, 80)}, the index says {uris.printable(etag, 80)}"
    else:
        return
    raise SourceChanged(
        f"{uris.shown(info.uri)}: has changed since it was separated ({differs}), so its mix and the stems may be of two songs; "
        "separate it again"
    )


def _is_same_etag(etag: str, info: storage.Info) -> bool:
    """Return whether an etag of the index is a file's current one, as `pipeline/out/plan.py` compares them in SQL.

    On a disk an etag is the modification time and the size; older rows lack the size.

    Args:
        etag: Etag in the index, from storage or from the manifest.
        info: The file as it is now; it has the size in the index.
    """
    was, now = etag.removeprefix("W/").strip('"'), (info.etag or "").removeprefix("W/").strip('"')
    return now in (was, f"{was} {info.bytes}") or was == f"{now} {info.bytes}"


def _below(out: str, uri: str) -> str:
    """Return the absolute URI of a stem; refuse one outside OUT, whatever the index says."""
    if uris.is_local(uri) and not uri.startswith("/") and ".." not in uri.split("/"):
        return f"{out}/{uri}"
    raise errors.BadUri(f"{uris.shown(uri)}: the URI of a stem, expected one relative to OUT")
