"""Containers: the kind of a file, and FFmpeg opened on it, restricted to this one file and the supported decoders."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import av
import av.error

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import beginning, headers, lookalikes, ogg
from sep_batch.pipeline.audio.decode_guard import DecodeGuard
from sep_batch.pipeline.audio.view import view

MAX_BYTES = 256 << 30  # 24 h of stereo float at 192 kHz are 133 GB
MAX_FRAME_SAMPLES = 1 << 20  # per channel; the largest regular frames, TTA at 768 kHz, have 802,482

DECODERS = (  # codecs of music; the other 150 decoders of FFmpeg are attack surface, and never used
    *("aac", "ac3", "alac", "ape", "dca", "eac3", "flac", "gsm_ms", "mlp", "mp1", "mp1float", "mp2", "mp2float", "mp3"),
    *("mp3float", "opus", "speex", "truehd", "tta", "vorbis", "wavpack", "wmalossless", "wmapro", "wmav1", "wmav2"),
    *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_mulaw"),
    *("pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_s8", "pcm_u8"),
    *("pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s64be", "pcm_s64le"),
)
# Only the demuxers that `identify` names are used, and none may open another file, as FFmpeg's playlists do.
_OPTIONS = {"protocol_whitelist": "none", "codec_whitelist": ",".join(DECODERS), "max_samples": str(MAX_FRAME_SAMPLES)}
MOST_ALLOCATED_BYTES = 256 << 20  # in one allocation, for an MP4: the index of 24 h of AAC at 96 kHz takes 200 MB
_ALLOCATED_BYTES = 64 << 20  # for every other container, and for an unpacked tag
announce: Callable[[str], object] = str  # called with a demuxer's name before a file is opened with it


@dataclass(frozen=True)
class AudioFile:
    """The audio of a file as a file of its own.

    Attributes:
        name: FFmpeg's demuxer.
        source: Seekable, at its start; begins with the container, without the tags before it.
        size: Length of `source`, in bytes.
        head: First bytes of `source`.
    """

    name: str
    source: IO[bytes]
    size: int
    head: bytes


def container_of(content: bytes) -> str | None:
    """Return FFmpeg's demuxer for a file by its first few kB; None for an unsupported one."""
    return beginning.find(io.BytesIO(content), len(content)).demuxer


def identify(source: IO[bytes]) -> AudioFile:
    """Find the audio in a seekable file.

    Raises:
        EmptyAudio: The file holds no bytes.
        UnsupportedFormat: The file has no supported container.
        DecodeError: The file begins like an audio file, with a tag or a frame's first bytes, but has no supported audio.
        TooLong: The file has more than `MAX_BYTES`.
    """
    size = source.seek(0, io.SEEK_END)
    audio_start = beginning.find(source, size)
    if not size:
        raise errors.EmptyAudio("the file holds no bytes")
    if audio_start.demuxer is None:
        raise _refusal(source, audio_start)
    if size > MAX_BYTES:
        raise errors.TooLong(f"the file has {size:,} bytes, expected at most {MAX_BYTES:,}")
    audio = view(source, audio_start.start, size) if audio_start.start else source
    name, start, stop, changes = (
        audio_start.demuxer,
        audio_start.start,
        size,
        headers.corrections(audio_start.demuxer, audio, size - audio_start.start),
    )
    sound = headers.rifx_as_au(audio, size - start) if name == "wav" and _head(audio, 4) == b"RIFX" else None
    if sound is not None:
        name, start, stop, changes = "au", start + sound.start, start + sound.stop, {0: sound.header}
    elif name == "au":  # FFmpeg would also play the bytes behind the samples
        stop = start + headers.au_stop(_head(audio, 24), size - start)
    if changes or stop < size:
        audio = view(source, start, stop, changes)
    return AudioFile(name, audio, stop - start, _head(audio, beginning.HEAD_BYTES))


def _head(source: IO[bytes], size: int) -> bytes:
    source.seek(0)
    head = source.read(size)
    source.seek(0)
    return head


def _refusal(source: IO[bytes], start: beginning.Beginning) -> errors.TrackError:
    source.seek(0)
    head = source.read(lookalikes.HEAD_BYTES)
    description = f"first bytes {head[:8].hex(' ')}"
    if start.start:
        source.seek(start.start)
        description += f", behind {start.start:,} bytes of tags and padding {source.read(8).hex(' ') or 'none'}"
    if start.sync:
        return errors.DecodeError(f"{start.sync}: {description}, but no consecutive frames")
    kind = errors.DecodeError if start.is_tagged else errors.UnsupportedFormat
    look = "" if start.start else lookalikes.looks_like(head)
    return kind(f"no supported audio container; {f'looks like {look}; ' if look else ''}{description}")


@contextmanager
def opened(file: AudioFile, *, bound_bytes: int | None = None) -> Iterator[tuple[Any, DecodeGuard]]:
    """Open a file with FFmpeg; of an Ogg file, its first link.

    Args:
        file: The audio, as `identify` returns it.
        bound_bytes: Most bytes that FFmpeg allocates at once; by default enough for a file of this kind.

    Raises:
        DecodeError: FFmpeg cannot read the file; errors of reading the source are raised as they are.
    """
    watched = DecodeGuard(file.source)
    content = ogg.Link(ogg.Pages(watched)) if file.name == "ogg" else watched
    with demuxed(content, file.name, watched, bound_bytes=bound_bytes) as container:
        yield container, watched


@contextmanager
def demuxed(content: Any, name: str, watched: DecodeGuard, *, bound_bytes: int | None = None) -> Iterator[Any]:
    """Open bytes that are read through `watched` with one of FFmpeg's demuxers; raises the errors of `opened`."""
    announce(name)
    _bound_allocations(bound_bytes or (MOST_ALLOCATED_BYTES if name == "mov" else _ALLOCATED_BYTES))
    try:
        with av.open(content, format=name, options=_OPTIONS, metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        watched.settle()
        raise errors.DecodeError(f"{name}: {error.strerror or error}") from error


def _bound_allocations(most_bytes: int) -> None:
    """Bound each allocation of FFmpeg in this process: a header may declare 2 GB."""
    ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(most_bytes))  # noqa: SLF001 (PyAV has no function for it)
