"""Headers of a manifest's files: duration, sample rate, channels, codec. Nothing is decoded. And durations that a manifest names.

The columns have names of their own: `duration_s` of a manifest is the duration to separate, and `audio_s` and `source_*` are
results of a run. The index has both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.pipeline import audio, storage
from sep_batch.pipeline.manifest.per_file import CountFiles, ask_files
from sep_batch.pipeline.rows import EXTRA
from sep_batch.pipeline.storage import Info

PROBED = pa.schema(
    [
        ("probed_s", pa.float64()),
        ("probed_rate_hz", pa.int32()),
        ("probed_channels", pa.int32()),
        ("probed_codec", pa.string()),
    ]
)
LENGTHS = ("probed_s", "duration", "manifest_audio_s")  # columns of a manifest with the duration of the whole file, in seconds
HEAD_BYTES = 256 << 10  # fetched at once: most headers, with a picture in them, take one request or two


def extra_numbers(tracks: pa.Table, names: Iterable[str]) -> np.ndarray:
    """Return the first of these extra columns that is numeric; NaN without one, and for values not positive and finite."""
    extra = tracks.schema.field(EXTRA).type if EXTRA in tracks.column_names else ()
    numbers = {field.name for field in extra if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)}
    name = next((name for name in names if name in numbers), "")
    values = as_numbers(pc.struct_field(tracks.column(EXTRA), name), math.nan) if name else np.full(tracks.num_rows, np.nan)
    return np.where((values > 0) & (values < math.inf), values, np.nan)


def as_numbers(column: pa.ChunkedArray, otherwise: float) -> np.ndarray:
    """Return a column as float64, with `otherwise` for nulls."""
    numbers: np.ndarray = column.cast(pa.float64(), safe=False).fill_null(otherwise).to_numpy()
    return numbers


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
