"""The stems and the source of a track, opened for reading once they are what the index says.

A stem has the size and, where it is small enough to be read whole, the sha256 of the index; the source has the size and the etag
that the run found, by the rule by which a plan tells whether a source has changed.
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
    """Another file than the one that was separated."""

    error_class, stage = "source_changed", "fetch"


def opened(name: str, track: Mapping[str, Any], export: Export) -> IO[bytes]:
    """Open a stem or the mix.

    Args:
        name: The stem's, or `MIX`.
        track: Track of a plan's row.
        export: Settings and places of the export.

    Raises:
        NotFound, DecodeError, SourceChanged, BadUri: It is not there, is not what the index says, or lies outside of OUT.
    """
    if name == MIX:
        source, info = storage.open_source(track["uri"])
        _refuse_another(info, track)
        expected, sha256 = None, None
    else:
        stem = next((stem for stem in track["stems"] if stem["stem"] == name), None)
        if stem is None:
            raise errors.NotFound(f"stem {name}: none in the index; it has {', '.join(s['stem'] for s in track['stems'])}")
        source, info = storage.open_source(_below(export.out, stem["uri"]))
        expected, sha256 = stem["bytes"], stem["sha256"]
    if expected is not None and info.bytes != expected:
        raise errors.DecodeError(f"{uris.shown(info.uri)}: has changed: {info.bytes} bytes, the index says {expected}")
    if sha256 and isinstance(source, io.BytesIO) and hashlib.sha256(source.getbuffer()).hexdigest() != sha256:
        raise errors.DecodeError(f"{uris.shown(info.uri)}: has changed: another sha256 than the index says")
    return source


def _refuse_another(info: storage.Info, track: Mapping[str, Any]) -> None:
    """Refuse a source that is not the one that was separated: its mix would belong to another song's stems.

    Raises:
        SourceChanged: Its size or its etag is another.
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
    """Tell whether an etag of the index is a file's of today, as `pipeline/out/plan.py` compares them in SQL.

    On a disk an etag is the time of the last change and, since there are rows with it, the size.

    Args:
        etag: As the index says, from storage or from the manifest.
        info: The file of today, which has the size that the index says.
    """
    was, now = etag.removeprefix("W/").strip('"'), (info.etag or "").removeprefix("W/").strip('"')
    return now in (was, f"{was} {info.bytes}") or was == f"{now} {info.bytes}"


def _below(out: str, uri: str) -> str:
    """Return where a stem lies, which is below OUT whatever an index says."""
    if uris.is_local(uri) and not uri.startswith("/") and ".." not in uri.split("/"):
        return f"{out}/{uri}"
    raise errors.BadUri(f"{uris.shown(uri)}: a stem's URI, expected one relative to OUT")
