"""The stems and the source of a track, opened for reading once they are what the index says.

A stem has the size and, where it is small enough to be read whole, the sha256 of the index; of the source only the size is known.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import IO, Any

from sep_batch.pipeline import failures, storage, uris
from sep_batch.pipeline.export.settings import MIX, Export


def opened(name: str, track: Mapping[str, Any], export: Export) -> IO[bytes]:
    """Open a stem or the mix.

    Args:
        name: The stem's, or `MIX`.
        track: Of a plan's row.
        export: What the export is about.

    Raises:
        NotFound, DecodeError, BadUri: It is not there, is not what the index says, or lies outside of OUT.
    """
    if name == MIX:
        source, found = storage.open_source(track["uri"])
        expected, sha256 = track["source_bytes"], None
    else:
        stem = next((stem for stem in track["stems"] if stem["stem"] == name), None)
        if stem is None:
            raise failures.NotFound(f"stem {name}: none in the index; it has {', '.join(s['stem'] for s in track['stems'])}")
        source, found = storage.open_source(_below(export.out, stem["uri"]))
        expected, sha256 = stem["bytes"], stem["sha256"]
    if expected is not None and found.bytes != expected:
        raise failures.DecodeError(f"{uris.shown(found.uri)}: has changed: {found.bytes} bytes, the index says {expected}")
    if sha256 and isinstance(source, io.BytesIO) and hashlib.sha256(source.getbuffer()).hexdigest() != sha256:
        raise failures.DecodeError(f"{uris.shown(found.uri)}: has changed: another sha256 than the index says")
    return source


def _below(out: str, uri: str) -> str:
    """Return where a stem lies, which is below OUT whatever an index says."""
    if uris.is_local(uri) and not uri.startswith("/") and ".." not in uri.split("/"):
        return f"{out}/{uri}"
    raise failures.BadUri(f"{uris.shown(uri)}: a stem's URI, expected one relative to OUT")
