"""Lists of ids: `--ids`, `--restore`."""

from __future__ import annotations

import sys

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import uris


def read_ids(source: str, flag: str) -> list[str]:
    """Read a text with one id a line; empty lines and those that begin with # are skipped.

    Args:
        source: A path or URI; `-` is standard input.
        flag: The flag that names it, for messages.

    Raises:
        UsageError: It cannot be read, or names no id.
    """
    try:
        text = sys.stdin.read() if source == "-" else storage.read(uris.absolute(source)).decode()
    except (errors.TrackError, UnicodeDecodeError) as error:
        raise errors.UsageError(
            f"{flag} {uris.printable(source)}: {errors.first_line(error)}; expected a text with one id a line"
        ) from error
    lines = (line.strip() for line in text.splitlines())
    ids = [line for line in lines if line and not line.startswith("#")]
    if not ids:
        raise errors.UsageError(f"{flag} {uris.printable(source)}: names no track; expected one id a line")
    return ids
