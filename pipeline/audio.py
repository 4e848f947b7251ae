"""Decode and encode. PyAV, FFmpeg's libraries in a wheel, is in this file only.

Waves are (2, samples) float32, full scale 1. Integers are read as x / 32768 and written as clip(round(x * 32768)), and
likewise at 24 bits. Encoders run bit-exact: same samples, same bytes.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any, Literal

import av
import av.error
import numpy as np

from sep_batch.pipeline import failures

MAX_S = 20 * 60  # what one part may hold
BLOCK = 1 << 16  # samples given to an encoder at once
BitDepth = Literal["16", "24", "float"]

# Only these demuxers are ever used, and none may open anything else: FFmpeg's playlists read other files.
_OPTIONS = {"protocol_whitelist": "none"}
_DECLARED_SLACK_S = 0.25  # a codec's delay and padding
_UNDECLARED = ("aac", "ac3")  # raw streams: FFmpeg guesses their length from the bitrate
_MP3_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
_BROKEN = (av.error.FFmpegError, ValueError, EOFError)


@dataclass(frozen=True)
class Decoded:
    """A decoded wave and what was found on the way.

    Attributes:
        wave: (2, samples) float32 at the rate asked for.
        rate_hz: The source's.
        channels: The source's.
        codec: FFmpeg's name of it.
        truncated: The container declares more than could be decoded.
        skipped_packets: Damaged ones, left out.
        nonfinite_samples: NaN and Inf, made zero.
    """

    wave: np.ndarray
    rate_hz: int
    channels: int
    codec: str
    truncated: bool
    skipped_packets: int
    nonfinite_samples: int


def container_of(head: bytes) -> str | None:
    """Name FFmpeg's demuxer for a container by its first bytes (4 kB are enough), None for one that is not read."""
    signs: tuple[tuple[Callable[[bytes], bool], str], ...] = (
        (lambda b: b[:4] in (b"RIFF", b"RF64", b"RIFX") and b[8:12] == b"WAVE", "wav"),
        (lambda b: b[:4] == b"FORM" and b[8:12] in (b"AIFF", b"AIFC"), "aiff"),
        (lambda b: b[:4] == b"fLaC", "flac"),
        (lambda b: b[:4] == b"OggS", "ogg"),
        (lambda b: b[4:8] == b"ftyp", "mov"),
        (lambda b: b[:4] == b"\x1aE\xdf\xa3", "matroska"),
        (lambda b: b[:4] == b"\x30\x26\xb2\x75", "asf"),
        (lambda b: b[:4] == b"caff", "caf"),
        (lambda b: b[:4] == b".snd", "au"),
        (lambda b: b[:4] == b"wvpk", "wv"),
        (lambda b: b[:4] == b"MAC ", "ape"),
        (lambda b: b[:4] == b"TTA1", "tta"),
        (lambda b: b[:2] == b"\x0b\x77", "ac3"),
        (lambda b: b[:1] == b"\xff" and len(b) > 1 and b[1] & 0xF6 == 0xF0, "aac"),  # ADTS: layer bits 00
        (lambda b: b[:1] == b"\xff" and len(b) > 1 and b[1] & 0xE0 == 0xE0, "mp3"),  # MPEG sync
    )
    if head[:3] == b"ID3" and len(head) > 9:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        after = head[10 + size :].lstrip(b"\0")
        return container_of(after) or "mp3" if after[:3] != b"ID3" else "mp3"
    return next((name for holds, name in signs if holds(head)), None)


def decode(source: IO[bytes], *, rate_hz: int, offset_s: float = 0.0, duration_s: float | None = None) -> Decoded:
    """Decode a file to a stereo wave.

    Args:
        source: Seekable, at its start.
        rate_hz: Of the wave; other rates are resampled in the file's own layout, so levels stay.
        offset_s: Decoded and dropped, not sought, so an excerpt is exactly that of the whole.
        duration_s: From the offset on; None is to the end.

    Raises:
        UnsupportedFormat: Not a container or codec that is read.
        DecodeError: Nothing in it can be decoded.
        EmptyAudio: No samples, or none between offset and duration.
        TooLong: More than `MAX_S`.
        NonfiniteAudio: No sample is a number.
    """
    head = source.read(4096)
    source.seek(0)
    if not head:
        raise failures.EmptyAudio("the file holds no bytes")
    name = container_of(head)
    if name is None:
        raise failures.UnsupportedFormat(f"first bytes {head[:8].hex(' ')}: no audio container that is read")
    try:
        with av.open(source, format=name, options=_OPTIONS, metadata_errors="replace") as container:
            declares = name not in _UNDECLARED and (name != "mp3" or any(tag in head for tag in _MP3_LENGTH_TAGS))
            decoded = _decode(container, rate_hz, offset_s, duration_s, declares_length=declares)
        cut_short = name == "wav" and duration_s is None and _is_cut_short(source, head)
        return dataclasses.replace(decoded, truncated=decoded.truncated or cut_short)
    except av.error.FFmpegError as error:
        raise failures.DecodeError(f"{name}: {error.strerror or error}") from error


def _is_cut_short(source: IO[bytes], head: bytes) -> bool:
    """Tell whether a WAV file is smaller than its header says; FFmpeg takes its length from the file's size."""
    declared = int.from_bytes(head[4:8], "little")
    if head[:4] != b"RIFF" or declared == 0xFFFFFFFF:
        return False
    source.seek(0, io.SEEK_END)
    return declared + 8 - source.tell() > max(4096, 0.01 * declared)


def _decode(container: Any, rate_hz: int, offset_s: float, duration_s: float | None, *, declares_length: bool) -> Decoded:
    if not container.streams.audio:
        raise failures.UnsupportedFormat(f"{container.format.name}: no audio stream")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise failures.UnsupportedFormat(f"{container.format.name}: a codec that is not read")
    stream.codec_context.thread_count = 1  # tracks run side by side instead
    begin = round(offset_s * rate_hz)
    end = begin + round(duration_s * rate_hz) if duration_s is not None else None
    reader = _Reader(container, stream, rate_hz)
    wave = _collect(reader, begin, end)
    finite = np.isfinite(wave)
    bad = wave.size - int(np.count_nonzero(finite))
    if bad == wave.size:
        raise failures.NonfiniteAudio(f"{bad} samples, none of them a number")
    if bad:
        wave = np.where(finite, wave, np.float32(0))
    return Decoded(
        wave=wave,
        rate_hz=reader.source_rate_hz,
        channels=reader.source_channels,
        codec=stream.codec_context.name,
        truncated=declares_length and reader.is_truncated(),
        skipped_packets=reader.skipped_packets,
        nonfinite_samples=bad,
    )


def _collect(reader: _Reader, begin: int, end: int | None) -> np.ndarray:
    """Gather samples begin to end, as soon as they come; only what is kept stays in memory."""
    kept, place = [], 0
    longest = MAX_S * reader.rate_hz
    for block in reader:
        first, stop = max(begin - place, 0), block.shape[1] if end is None else min(end - place, block.shape[1])
        if first < stop:
            kept.append(block[:, first:stop])
        place += block.shape[1]
        if end is not None and place >= end:
            break
        if place - begin > longest:
            break
    samples = sum(block.shape[1] for block in kept)
    if samples > longest:
        raise failures.TooLong(f"longer than {MAX_S} s; give offset and duration, or cut it")
    if not place and reader.skipped_packets:
        raise failures.DecodeError(f"none of its {reader.skipped_packets} packets could be decoded")
    if not samples:
        raise failures.EmptyAudio(f"no samples from {begin / reader.rate_hz:g} s on; the file has {place / reader.rate_hz:g} s")
    return np.concatenate(kept, axis=1)


class _Reader:
    """Iterates over a stream's samples, (2, n) float32 at one rate, counting what is damaged."""

    def __init__(self, container: Any, stream: Any, rate_hz: int) -> None:
        self.container, self.stream, self.rate_hz = container, stream, rate_hz
        self.source_rate_hz = self.source_channels = self.skipped_packets = 0
        self.decoded = 0  # samples at the source's rate
        self.ended = False

    def __iter__(self) -> Iterator[np.ndarray]:
        resampler: Any = None
        form = None
        for frame in self._frames():
            if (frame.layout.name, frame.sample_rate) != form:
                if resampler is not None:  # the stream changed its form midway
                    yield from map(_stereo, resampler.resample(None))
                form = (frame.layout.name, frame.sample_rate)
                resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=self.rate_hz)
                self.source_rate_hz = self.source_rate_hz or frame.sample_rate
                self.source_channels = self.source_channels or frame.layout.nb_channels
            self.decoded += frame.samples
            frame.pts = None  # samples are counted, time stamps are not trusted
            yield from map(_stereo, resampler.resample(frame))
        if resampler is not None:
            yield from map(_stereo, resampler.resample(None))
        self.ended = True

    def _frames(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except _BROKEN:  # the rest of the container cannot be read
                self.skipped_packets += 1
                return
            try:
                yield from packet.decode()
            except _BROKEN:
                self.skipped_packets += 1

    def is_truncated(self) -> bool:
        """Tell whether the container declared more than came."""
        if not self.ended or not self.source_rate_hz:
            return False
        stream, container = self.stream, self.container
        if stream.duration is not None:
            declared = float(stream.duration * stream.time_base)
        else:
            declared = (container.duration or 0) / av.time_base
        decoded = self.decoded / self.source_rate_hz
        return declared - decoded > max(_DECLARED_SLACK_S, 0.01 * declared)


def _stereo(frame: Any) -> np.ndarray:
    """Return a packed frame's first two channels; planar ones of eight channels and more crash PyAV 18."""
    planes: np.ndarray = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
    return np.repeat(planes, 2, axis=0) if len(planes) == 1 else planes[:2]


@dataclass(frozen=True)
class Codec:
    """One way to write a wave, in FFmpeg's names: muxer, encoder, and the form of the samples it is given."""

    container: str
    encoder: str
    samples: str
    bits: int = 16


CODECS: dict[str, dict[str, Codec]] = {  # by --format and --bit-depth; a lossy format has no depth
    "flac": {"16": Codec("flac", "flac", "s16"), "24": Codec("flac", "flac", "s32", 24)},
    "wav": {
        "16": Codec("wav", "pcm_s16le", "s16"),
        "24": Codec("wav", "pcm_s24le", "s32", 24),
        "float": Codec("wav", "pcm_f32le", "flt"),
    },
    "mp3": {"": Codec("mp3", "libmp3lame", "fltp")},
}
DEFAULT_BITRATE = 128_000  # Spleeter's
SILENCE_LUFS = -70.0  # the meter's absolute gate: what it says where nothing passed


def is_lossy(format: str) -> bool:
    """Tell whether a format of `CODECS` takes a bitrate instead of a bit depth."""
    return "" in CODECS[format]


def encode(wave: np.ndarray, codec: Codec, *, rate_hz: int, bitrate: int | None = None) -> bytes:
    """Encode a wave bit-exact: same samples, same bytes.

    Args:
        wave: (channels, samples) float32, one channel or two; clipped where the codec holds integers.
        codec: How to write it.
        rate_hz: Its sampling rate.
        bitrate: Bits per second, for lossy codecs.
    """
    out = io.BytesIO()
    layout = "stereo" if len(wave) == 2 else "mono"
    with av.open(out, "w", format=codec.container, options={"fflags": "+bitexact"}) as muxer:
        stream: Any = muxer.add_stream(codec.encoder, rate=rate_hz, options={"flags": "+bitexact"}, layout=layout)
        stream.format = codec.samples
        if bitrate:
            stream.bit_rate = bitrate
        for start in range(0, wave.shape[1], BLOCK):
            frame = _frame(wave[:, start : start + BLOCK], codec, layout)
            frame.sample_rate, frame.pts = rate_hz, start
            muxer.mux(stream.encode(frame))
        muxer.mux(stream.encode(None))
    return out.getvalue()


def _frame(block: np.ndarray, codec: Codec, layout: str) -> Any:
    planes = _rounded(block, codec.bits) if codec.samples.startswith("s") else block
    planar = codec.samples.endswith("p")
    laid_out = np.ascontiguousarray(planes) if planar else np.ascontiguousarray(planes.T).reshape(1, -1)
    return av.AudioFrame.from_ndarray(laid_out, format=codec.samples, layout=layout)


def _rounded(wave: np.ndarray, bits: int) -> np.ndarray:
    """Round to integers: int16, or 24 bits at the top of int32 as FFmpeg wants them. Exact, full scale being 2^n."""
    full = np.float32(1 << (bits - 1))
    rounded = np.clip(np.rint(wave * full), -full, full - 1)
    return rounded.astype(np.int16) if bits == 16 else rounded.astype(np.int32) << (32 - bits)


def levels(wave: np.ndarray, rate_hz: int) -> dict[str, float | int | None]:
    """Measure a stem before rounding: peak_dbfs, rms_dbfs, lufs, clipped_samples; a level of silence is None."""
    peak = max(float(wave.max(initial=0)), -float(wave.min(initial=0)))
    power = sum(float(np.dot(channel, channel)) for channel in wave) / wave.size
    return {
        "peak_dbfs": 20 * math.log10(peak) if peak > 0 else None,
        "rms_dbfs": 10 * math.log10(power) if power > 0 else None,
        "lufs": loudness(wave, rate_hz),
        "clipped_samples": int(np.count_nonzero((wave >= 1) | (wave < -1))) if peak >= 1 else 0,
    }


def loudness(wave: np.ndarray, rate_hz: int) -> float | None:
    """Measure integrated loudness with FFmpeg's meter, in LUFS; None below 0.4 s or in silence.

    Args:
        wave: (2, samples) float32.
        rate_hz: Its sampling rate.

    Source: EBU R 128, ITU-R BS.1770.
    """
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="fltp", sample_rate=rate_hz, layout="stereo", time_base=Fraction(1, rate_hz))
    meter, sink = graph.add("ebur128", "metadata=1"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    found: dict[str, str] = {}
    for start in range(0, wave.shape[1], BLOCK):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, start : start + BLOCK]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate_hz, start
        graph.push(frame)
        found = _last_metadata(graph) or found
    graph.push(None)
    found = _last_metadata(graph) or found
    lufs = float(found.get("lavfi.r128.I", "-inf"))
    return lufs if wave.shape[1] >= 0.4 * rate_hz and lufs > SILENCE_LUFS else None


def _last_metadata(graph: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    while True:
        try:
            found = graph.pull().metadata
        except (av.error.BlockingIOError, av.error.EOFError):
            return found
