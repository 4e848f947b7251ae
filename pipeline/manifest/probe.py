"""Headers of a manifest's files: duration, sample rate, channels, codec. Nothing is decoded.

The columns have names of their own: `duration_s` in a manifest asks for so much to be separated, and `audio_s` and `source_*`
are what a run finds. The index carries them beside those.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pyarrow as pa

from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.manifest.per_file import Seen, ask_files
from sep_batch.pipeline.storage import Info

PROBED = pa.schema(
    [
        ("probed_s", pa.float64()),
        ("probed_rate_hz", pa.int32()),
        ("probed_channels", pa.int32()),
        ("probed_codec", pa.string()),
    ]
)
HEAD_BYTES = 256 << 10  # fetched at once: most headers, with a picture in them, take one request or two


def probe(table: pa.Table, seen: Seen) -> tuple[pa.Table, list[str]]:
    """Add PROBED's columns to a manifest, and size and etag where they were not known.

    Args:
        table: As `scan` makes it.
        seen: Told of so many files more.

    Returns:
        The manifest, with nulls where a file cannot be probed; and what a person should know of these.

    Raises:
        NotRunnableError: Storage gives nothing at all.
    """
    probed, unanswered = ask_files(table, _header, PROBED, seen)
    return probed, unanswered.told("could not be probed, and are listed all the same")


def _header(file: Info) -> tuple[Any, ...]:
    with storage.open_ranges(file.uri, file.bytes, HEAD_BYTES) as source:
        return astuple(audio.probe(source))
