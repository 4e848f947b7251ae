"""The decoder: runs `decoding` in child processes, so that a file that crashes FFmpeg does not crash the caller.

Each file has a child process to itself while it is decoded; the child is then kept for the next file. It holds no credentials and
no open file: this process reads the source, and passes its bytes in shared memory as the child requests them. The child's replies
are read as JSON, never as a pickle.

A child that dies is replaced. Where it had decoded other files before, the file is retried once in a new child, since an earlier
file may have broken the process.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import IO, Any

import numpy as np

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import messages, pictures, tags
from sep_batch.pipeline.audio.damage import OnDamage
from sep_batch.pipeline.audio.decoder_process import DecoderDiedError, DecoderProcess, Read
from sep_batch.pipeline.audio.downmix import DEFAULT_DOWNMIX, Downmix
from sep_batch.pipeline.audio.source_info import Found, Header
from sep_batch.pipeline.audio.tags import SourceTags

SILENT_S = 120.0  # wall-clock time without a message from the child
PROBE_SILENT_S = 30.0  # the same while a header is read
_AT_WORK = max(2, os.cpu_count() or 1)  # children that read headers at once
_WARNING_CHARS = 500
_READ_BEFORE = 8  # blocks of a file that are read for its header while no child waits for them


def decode(
    source: IO[bytes],
    *,
    rate_hz: int,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    downmix: Downmix = DEFAULT_DOWNMIX,
    on_damage: OnDamage = "keep",
    stream: int | None = None,
    silent_s: float = SILENT_S,
) -> tuple[Iterator[np.ndarray], Found]:
    """Decode a file to a stereo wave in a child process, piece by piece as the iterator is read.

    Args:
        source: Seekable; stays open until the wave has ended.
        rate_hz: Sample rate of the wave.
        offset_s: Seconds that are decoded and dropped.
        duration_s: Seconds from the offset on; None is to the end.
        downmix: Rule for more than two channels: `itu`, or `first-two`.
        on_damage: `keep` flags a file that is truncated or has broken packets; `fail` fails it.
        stream: Number of the audio stream, from 0; None is FFmpeg's choice. Ogg files have no other.
        silent_s: Seconds of wall-clock time after which a child that does not answer is killed.

    Returns:
        The wave in pieces, each (2, samples) float32, together at least one sample, and facts that are filled in on the way.

    Raises:
        DecodeCrash: The child died, or exceeded a limit.
        TrackError: `decoding.decode`, or reading the source, failed.

    The iterator raises all of them.
    """
    facts = Found()
    options = {
        "rate_hz": rate_hz,
        "offset_s": offset_s,
        "duration_s": duration_s,
        "downmix": downmix,
        "on_damage": on_damage,
        "stream": stream,
    }
    return _waves(source, options, facts, silent_s), facts


def probe(source: IO[bytes], *, silent_s: float = PROBE_SILENT_S) -> Header:
    """Read a file's header in a child process; decode nothing.

    Args:
        source: Seekable.
        silent_s: Seconds of wall-clock time after which a child that does not answer is killed.

    Raises:
        DecodeCrash: The child died, or exceeded a limit.
        TrackError: `decoding.probe`, or reading the source, failed.
    """
    request, read = {"size": source.seek(0, io.SEEK_END)}, _reader(source)
    blocks = {0: read(0, messages.SOURCE_BYTES)}
    while True:
        cached = _cached_reader(blocks, read if len(blocks) >= _READ_BEFORE else None)
        try:
            with _PROBING:
                (info,) = _with_retry(request, cached, silent_s)
        except _MissingError as missing:  # no child waits for storage while others wait for a child
            start = missing.number * messages.SOURCE_BYTES
            blocks[missing.number] = read(start, messages.SOURCE_BYTES)
        else:
            return Header(**{field.name: info[1][field.name] for field in fields(Header)})


def read_tags(source: IO[bytes], *, silent_s: float = PROBE_SILENT_S) -> SourceTags:
    """Read a file's tags and cover in a child process.

    A file whose tags cannot be read has none, and a warning that says so: its audio may be readable.

    Args:
        source: Seekable.
        silent_s: Seconds of wall-clock time after which a child that does not answer is killed.

    Raises:
        TrackError: Reading the source failed, or another transient error.
    """
    try:
        return _tags(source, silent_s)
    except errors.TrackError as error:
        if error.transient or error.stage != errors.DecodeError.stage:
            raise
        return SourceTags(warning=f"tags left out: {error}")


def _tags(source: IO[bytes], silent_s: float) -> SourceTags:
    request, pieces, info = {"tags": True, "size": source.seek(0, io.SEEK_END)}, list[np.ndarray](), dict[str, Any]()
    for piece, facts in _with_retry(request, _reader(source), silent_s):
        info = facts
        if piece is not None and 8 * sum(piece.shape[1] for piece in pieces) < tags.MAX_COVER_BYTES:
            pieces.append(piece)
    content = b"".join(piece.T.tobytes() for piece in pieces)[: info["cover_bytes"]]
    cover = pictures.picture(content)
    values, _ = tags.cleaned(info["values"])  # again, since the child may be the file's
    return SourceTags(tags.Tags(values, cover), str(info["warning"])[:_WARNING_CHARS])


def start() -> str:
    """Start a child, which waits for the first file.

    Returns:
        The reason why the child runs without a system call filter; empty where it has one.

    Raises:
        NotRunnableError: The child does not start.
    """
    try:
        child = _take_child()
    except errors.DecodeCrash as crash:
        raise errors.NotRunnableError(str(crash)) from crash
    _return_child(child)
    return child.unfiltered


def _waves(source: IO[bytes], options: Mapping[str, Any], facts: Found, silent_s: float) -> Iterator[np.ndarray]:
    request = {"decode": options, "size": source.seek(0, io.SEEK_END)}
    for wave, info in _with_retry(request, _reader(source), silent_s):
        _fill(facts, info)
        if wave is not None:
            yield wave


def _with_retry(request: Mapping[str, Any], read: Read, silent_s: float) -> Iterator[tuple[np.ndarray | None, dict[str, Any]]]:
    """Yield the pieces of a file's wave, each with the facts so far; at the end None, with all facts."""
    delivered, child = 0, _take_child()
    while True:
        try:
            with contextlib.closing(child.run(request, read, silent_s)) as running:
                position = 0
                while True:
                    try:
                        wave, info = next(running)
                    except StopIteration as end:
                        yield None, end.value
                        return
                    position, new = position + wave.shape[1], wave[:, max(0, delivered - position) :]
                    if new.size:
                        delivered = position
                        yield new, info
        except DecoderDiedError as death:
            if child.files == 1 or not death.may_be_others:
                raise _crash(child, death) from death
        finally:
            _return_child(child)
        child = _start_child()


def _crash(child: DecoderProcess, death: DecoderDiedError) -> errors.DecodeCrash:
    crash = errors.DecodeCrash(f"{child.container or 'audio'}: the decoder {death}")
    crash.transient = death.transient
    return crash


def _fill(facts: Found, info: Mapping[str, Any]) -> None:
    for field in fields(facts):
        setattr(facts, field.name, info[field.name])


def _reader(source: IO[bytes]) -> Read:
    def read(position: int, count: int) -> bytes:
        source.seek(position)
        return source.read(count)

    return read


class _MissingError(Exception):
    """A block of the file that has not been read."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _cached_reader(blocks: Mapping[int, bytes], fallback: Read | None) -> Read:
    """Return a reader of a file of which some blocks are cached; a request never crosses the end of a block."""

    def read(position: int, count: int) -> bytes:
        number, start = divmod(position, messages.SOURCE_BYTES)
        if number in blocks:
            return blocks[number][start : start + count]
        if fallback is None:
            raise _MissingError(number)
        return fallback(position, count)

    return read


def _take_child() -> DecoderProcess:
    """Return an idle child, or start one."""
    with _LOCK:
        if _IDLE:
            return _IDLE.pop()
    return _start_child()


def _start_child() -> DecoderProcess:
    try:
        return DecoderProcess()
    except DecoderDiedError as death:
        crash = errors.DecodeCrash(f"the decoder did not start: its process {death}")
        crash.transient = True
        raise crash from death


def _return_child(child: DecoderProcess) -> None:
    """Keep an idle child for the next file; end any other."""
    if not child.is_idle:
        child.end()
        return
    with _LOCK:
        _IDLE.append(child)


_LOCK = threading.Lock()
_IDLE = list[DecoderProcess]()
_PROBING = threading.Semaphore(_AT_WORK)
os.register_at_fork(after_in_child=_IDLE.clear)  # these children belong to the process that forked
