"""A sample of a manifest's tracks, by a hash of their ids: the same ones each time, and a larger sample holds a smaller one."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

HASH_BYTES = 8


def chosen(tracks: pa.Table, limit: int | None, sample: int | None) -> pa.Table:
    """Return the tracks that `--limit` or `--sample` leaves."""
    return tracks.slice(0, limit) if sample is None else drawn(tracks, sample)


def drawn(tracks: pa.Table, count: int) -> pa.Table:
    """Return the `count` tracks whose ids have the smallest SHA-256, in the order of the manifest; all where there are fewer."""
    if count >= tracks.num_rows:
        return tracks
    hashes = np.empty(tracks.num_rows, f"S{HASH_BYTES}")
    number = 0
    for chunk in tracks.column("id").chunks:
        for id in chunk:
            hashes[number] = hashlib.sha256(id.as_py().encode()).digest()[:HASH_BYTES]
            number += 1
    smallest = np.argsort(hashes.view(">u8"), kind="stable")[:count]
    return tracks.take(pa.array(np.sort(smallest)))
