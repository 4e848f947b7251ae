"""Decompression of a manifest that ends in .gz, bounded: a small file may hold terabytes of zeros."""

from __future__ import annotations

import gzip
import io
import zlib

from sep_batch.pipeline.manifest.parse import UnreadableError

BLOCK_BYTES = 4 << 20
ALWAYS_BYTES = 64 << 20  # allowed at any ratio
MOST_RATIO = 200  # lists of URIs shrink to a fifth or a thirtieth
MOST_BYTES = 16 << 30


def decompress(content: bytes) -> bytes:
    """Return what a gzip file holds; consecutive members are joined.

    Raises:
        UnreadableError: It is no gzip file, is cut short, or holds more than a list may.
    """
    most = min(MOST_BYTES, max(ALWAYS_BYTES, MOST_RATIO * len(content)))
    whole = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            while block := packed.read(BLOCK_BYTES):
                whole.write(block)
                if whole.tell() > most:
                    raise UnreadableError(
                        f"its {len(content):,} bytes of gzip hold more than {most:,} bytes, the limit for a list; "
                        "decompress it first if it is a list"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableError(f"not readable as gzip: {error}") from error
    return whole.getvalue()
