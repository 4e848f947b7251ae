"""Headers of a manifest's files: duration, sample rate, channels, codec. Nothing is decoded.

The columns have names of their own: `duration_s` of a manifest is the duration to separate, and `audio_s` and `source_*` are
results of a run. The index has both.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pyarrow as pa

from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.manifest.per_file import CountFiles, ask_files
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


def probe(table: pa.Table, count_files: CountFiles) -> tuple[pa.Table, list[str]]:
    """Add PROBED's columns to a manifest, and sizes and etags that were unknown.

    Args:
        table: Manifest, as `scan` makes it.
        count_files: Called with the number of files handled since the last call.

    Returns:
        The manifest, with nulls for files that cannot be probed; and warnings about these.

    Raises:
        NotRunnableError: Storage does not answer at all.
    """
    probed, unanswered = ask_files(table, _header, PROBED, count_files)
    return probed, unanswered.warnings("could not be probed (listed anyway)")


def _header(file: Info) -> tuple[Any, ...]:
    with storage.open_ranges(file.uri, file.bytes, HEAD_BYTES) as source:
        return astuple(audio.probe(source))
