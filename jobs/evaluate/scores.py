"""The scores of many tracks at once. Those of each finished track are kept in OUT, by all that they depend on.

So an evaluation that was killed goes on where it was, and one that is run again reads what it needs only where that has changed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any

from sep_batch.jobs.setup.check_machine import memory_bytes
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.audio import DECODE_RULES
from sep_batch.pipeline.out import layout
from sep_batch.pipeline.scoring import bsseval
from sep_batch.pipeline.scoring.track import Metrics, Track, failed, score
from sep_batch.pipeline.storage import Options

_RULES = 1  # counted up when the same files get other scores


def scored(
    tracks: Sequence[Track], out: str, metrics: Metrics, access: Options, *, cpus: int | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each track, in the order in which they are done; a failed track has one row, with its error.

    Args:
        tracks: Tracks to score.
        out: OUT, which keeps their scores.
        metrics: `bsseval` takes a process per track, since museval holds Python's lock, and as many as fit in memory.
        access: Options of storage.
        cpus: Number of tracks that are scored at once; None is that of CPUs.

    Raises:
        StorageUnusable: A storage as a whole is unusable.
    """
    workers = cpus or os.cpu_count() or 1
    pool, is_over = _processes(tracks, access, workers) if metrics == "bsseval" else ThreadPoolExecutor(workers), False
    try:
        calls = [pool.submit(partial(_scored, folder=f"{out}/{layout.SCORES}", metrics=metrics), track) for track in tracks]
        for call in as_completed(calls):
            yield call.result()
        is_over = True
    finally:
        pool.shutdown(wait=is_over, cancel_futures=True)


def _processes(tracks: Sequence[Track], access: Options, workers: int) -> ProcessPoolExecutor:
    """Return processes, as many as fit in memory."""
    values = (sum(2 * stem.samples for stem in track.stems.values()) for track in tracks)
    fitting = memory_bytes() // (bsseval.BYTES_A_VALUE * max(values, default=1))
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max(1, min(workers, fitting)), context, initializer=_begin_process, initargs=(access,))


def _begin_process(access: Options) -> None:
    """Prepare a process of the pool. It ends with its parent, also if that is killed."""
    storage.use(access)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _scored(track: Track, *, folder: str, metrics: Metrics) -> list[dict[str, Any]]:
    try:
        uri = f"{folder}/{_key(track, metrics)}.json"
        if (rows := _kept(uri)) is None:
            rows = score(track, metrics)
            storage.put(uri, json.dumps(rows).encode())
    except errors.StorageUnusable:
        raise
    except errors.TrackError as error:
        return [failed(track.id, track.uri, error)]
    return rows


def _kept(uri: str) -> list[dict[str, Any]] | None:
    try:
        rows: list[dict[str, Any]] = json.loads(storage.read(uri))
    except (errors.NotFound, ValueError):  # none yet, or not whole
        return None
    return rows


def _key(track: Track, metrics: Metrics) -> str:
    """Hash all that a track's scores depend on: its stems, its references as they are in storage, and the metrics.

    Raises:
        NotFound: A reference is missing.
    """
    infos = ((uri, _info(uri)) for uri in sorted({source.uri for source in track.references}))
    files = [(uri, info.etag, info.bytes) for uri, info in infos]
    stems = {name: (stem.sha256, list(track.recipes[name].gains.items())) for name, stem in track.stems.items()}
    whole = [_RULES, DECODE_RULES, metrics, track.id, track.uri, track.offset_s, track.duration_s, stems, files]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]


def _info(uri: str) -> storage.Info:
    try:
        return storage.info(uri)
    except errors.TrackError as error:
        raise type(error)(f"reference {error}") from error
