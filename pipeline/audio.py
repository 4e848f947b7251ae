"""Decode and encode. PyAV, FFmpeg's libraries in a wheel, is in this file only.

Waves are (2, samples) float32, full scale 1. Integers are read as x / 32768 and written as clip(round(x * 32768)), and
likewise at 24 bits. Encoders run bit-exact: same samples, same bytes.
"""

from __future__ import annotations

import ctypes
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import IO, Any, Literal, Self

import av
import av.error
import numpy as np

from sep_batch.pipeline import failures
from sep_batch.pipeline.watch import Watched

MAX_S = 24 * 3600  # a longer track is refused
MAX_BYTES = 256 << 30  # 24 h of stereo float at 192 kHz are 133 GB
MAX_CHANNELS = 64  # FFmpeg's resampler takes no more
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
MAX_FRAME_SAMPLES = 1 << 20  # of one channel; the largest honest ones, TTA at 768 kHz, have 802,482
LOUDEST = 2.0**32  # full scale of 32-bit integers that were written as floats; more is no wave, and its square no number
BLOCK = 1 << 16  # samples given to an encoder at once
_RIFF_BYTES = (1 << 32) - 1024  # of samples; more do not fit beside the headers of a plain WAV
BitDepth = Literal["16", "24", "float"]

DECODERS = (  # what music comes in; the other 150 of FFmpeg's are never given a byte
    *(
        "aac",
        "ac3",
        "alac",
        "ape",
        "dca",
        "eac3",
        "flac",
        "gsm_ms",
        "mlp",
        "mp1",
        "mp1float",
        "mp2",
    ),
    *(
        "mp2float",
        "mp3",
        "mp3float",
        "opus",
        "speex",
        "truehd",
        "tta",
        "vorbis",
        "wavpack",
        "wmalossless",
        "wmapro",
        "wmav1",
        "wmav2",
    ),
    *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_mulaw"),
    *("pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_s8", "pcm_u8"),
    *("pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s64be", "pcm_s64le"),
)
# Only the demuxers of `container_of` are ever used, and none may open anything else: FFmpeg's playlists read other files.
_OPTIONS = {"protocol_whitelist": "none", "codec_whitelist": ",".join(DECODERS), "max_samples": str(MAX_FRAME_SAMPLES)}
_LARGEST_ALLOCATION = {"mov": 256 << 20}  # the index of 24 h of AAC at 96 kHz takes 200 MB
_LARGEST_ALLOCATION_BYTES = 64 << 20  # everywhere else, and of what a tag unpacks to
_FAR_S = 1e9  # past the end of every file
_FULL_SCALE = {"flt": 1, "fltp": 1, "s16": 1 << 15, "s16p": 1 << 15, "s32": 1 << 31, "s32p": 1 << 31}  # read as they are
_DECLARED_SLACK_S = 0.25  # a codec's delay and padding
_UNDECLARED = ("aac", "ac3")  # raw streams: FFmpeg guesses their length from the bitrate
_OGG_PAGE_BYTES = 65_307  # the longest
_MP3_LENGTH_TAGS = (b"Xing", b"Info", b"VBRI")
_BROKEN = (av.error.FFmpegError, ValueError, EOFError)


@dataclass
class Found:
    """What was found in a file: known as far as it was decoded, complete once its waves have ended.

    Attributes:
        rate_hz: The source's.
        channels: The source's.
        codec: FFmpeg's name of it.
        samples: Decoded, at the rate asked for, between offset and duration.
        truncated: The container declares more than could be decoded.
        skipped_packets: Damaged ones, left out.
        nonfinite_samples: NaN, Inf and what is beyond `LOUDEST`, made zero.
    """

    rate_hz: int = 0
    channels: int = 0
    codec: str = ""
    samples: int = 0
    truncated: bool = False
    skipped_packets: int = 0
    nonfinite_samples: int = 0


@dataclass(frozen=True)
class Header:
    """What a file's header says; None where it says nothing.

    Attributes:
        seconds: How long it is; a guess from the bitrate where the container does not say: raw AAC and AC-3, MP3 without a tag.
        rate_hz: Its own.
        channels: Its own.
        codec: FFmpeg's name of it.
    """

    seconds: float | None
    rate_hz: int | None
    channels: int | None
    codec: str


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


def decode(
    source: IO[bytes], *, rate_hz: int, offset_s: float = 0.0, duration_s: float | None = None
) -> tuple[Iterator[np.ndarray], Found]:
    """Decode a file to a stereo wave, as it is asked for.

    Args:
        source: Seekable, at its start; open until the wave has ended.
        rate_hz: Of the wave; other rates are resampled in the file's own layout, so levels stay.
        offset_s: Decoded and dropped, not sought, so an excerpt is exactly that of the whole.
        duration_s: From the offset on; None is to the end.

    Returns:
        The wave in pieces, each (2, samples) float32, together at least one sample, and what is found on the way.

    Raises:
        UnsupportedFormat: Not a container or codec that is read.
        DecodeError: Nothing in it can be decoded.
        EmptyAudio: No samples, or none between offset and duration.
        TooLong: More than `MAX_S`.
        NonfiniteAudio: No sample is a number.

    All of them are raised by the iterator.
    """
    found = Found()
    return _pieces(source, rate_hz, offset_s, duration_s, found), found


def probe(source: IO[bytes]) -> Header:
    """Read what a file's header says, and decode nothing.

    Args:
        source: Seekable, at its start.

    Raises:
        EmptyAudio, UnsupportedFormat, DecodeError, TooLong: As `decode` does.
    """
    name, _, _ = _container(source)
    _bound_allocations(max(_LARGEST_ALLOCATION.values()))  # files of all kinds are probed at once
    with Watched(source) as watched:
        try:
            with av.open(watched, format=name, options=_OPTIONS, metadata_errors="replace") as container:
                reader = _Reader(container, MAX_RATE_HZ, Found(), watched)
                codec = reader.stream.codec_context
                reader.found.rate_hz = codec.sample_rate
                seconds = reader.declared_s()
                return Header(
                    seconds if seconds > 0 else None, codec.sample_rate or None, codec.layout.nb_channels or None, codec.name
                )
        except av.error.FFmpegError as error:
            watched.settle()
            raise failures.DecodeError(f"{name}: {error.strerror or error}") from error


def _pieces(source: IO[bytes], rate_hz: int, offset_s: float, duration_s: float | None, found: Found) -> Iterator[np.ndarray]:
    name, size, head = _container(source)
    begin, samples = _samples(offset_s, rate_hz), None if duration_s is None else _samples(duration_s, rate_hz)
    cut_short = duration_s is None and _is_cut_short(source, size, head)
    _bound_allocations(_LARGEST_ALLOCATION.get(name, _LARGEST_ALLOCATION_BYTES))
    with Watched(source) as watched:
        try:
            with av.open(watched, format=name, options=_OPTIONS, metadata_errors="replace") as container:
                reader = _Reader(container, rate_hz, found, watched)
                declares = name not in _UNDECLARED and (name != "mp3" or any(tag in head for tag in _MP3_LENGTH_TAGS))
                if declares and min(reader.declared_s() - offset_s, duration_s or math.inf) > MAX_S + _DECLARED_SLACK_S:
                    raise failures.TooLong(_too_long())
                yield from _kept(reader, begin, samples)
                found.truncated = cut_short or (declares and reader.is_truncated())
        except av.error.FFmpegError as error:
            watched.settle()
            raise failures.DecodeError(f"{name}: {error.strerror or error}") from error


def _container(source: IO[bytes]) -> tuple[str, int, bytes]:
    """Return FFmpeg's demuxer for a file, its size and its first bytes; refuse what is not read."""
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    head = source.read(4096)
    source.seek(0)
    if not head:
        raise failures.EmptyAudio("the file holds no bytes")
    name = container_of(head)
    if name is None:
        raise failures.UnsupportedFormat(f"first bytes {head[:8].hex(' ')}: no audio container that is read")
    if size > MAX_BYTES:
        raise failures.TooLong(f"a file of {size:,} bytes, expected at most {MAX_BYTES:,}")
    return name, size, head


def _samples(seconds: float, rate_hz: int) -> int:
    return round(min(seconds, _FAR_S) * rate_hz)


def _bound_allocations(most_bytes: int) -> None:
    """Bound what FFmpeg takes at once, in this process: a header may say that 2 GB follow."""
    ctypes.CDLL(av._core.__file__).av_max_alloc(ctypes.c_size_t(most_bytes))  # noqa: SLF001 (PyAV does not hand it on)


def _is_cut_short(source: IO[bytes], size: int, head: bytes) -> bool:
    """Tell whether a WAV or Ogg file ends too early by its own words; FFmpeg takes their length from what is there."""
    if head[:4] == b"OggS":
        source.seek(max(0, size - _OGG_PAGE_BYTES))
        _, _, last_page = source.read(_OGG_PAGE_BYTES).rpartition(b"OggS\0")
        source.seek(0)
        return not (last_page and last_page[0] & 4)  # the mark of a stream's end
    declared = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RF64" and head[12:16] == b"ds64":  # above 4 GiB the size stands in a place of its own
        declared = int.from_bytes(head[20:28], "little")
    elif head[:4] != b"RIFF" or declared == 0xFFFFFFFF:
        return False
    return declared + 8 - size > max(4096, 0.01 * declared)


def _kept(reader: _Reader, begin: int, samples: int | None) -> Iterator[np.ndarray]:
    """Yield so many samples from `begin` on, as soon as they come, with what is no number made zero."""
    found, place = reader.found, 0
    end = None if samples is None else begin + samples
    for block in reader:
        first, stop = max(begin - place, 0), block.shape[1] if end is None else min(end - place, block.shape[1])
        place += block.shape[1]
        if first < stop:
            found.samples += stop - first
            if found.samples > MAX_S * reader.rate_hz:
                raise failures.TooLong(_too_long())
            yield _finite(block[:, first:stop], found)
        if end is not None and place >= end:
            break
    if not place and found.skipped_packets:
        raise failures.DecodeError(f"none of its {found.skipped_packets} packets could be decoded")
    if not found.samples:
        raise failures.EmptyAudio(f"no samples from {begin / reader.rate_hz:g} s on; the file has {place / reader.rate_hz:g} s")
    if found.nonfinite_samples == 2 * found.samples:
        raise failures.NonfiniteAudio(f"{found.nonfinite_samples} samples, none of them a number")


def _too_long() -> str:
    return f"longer than {MAX_S / 3600:g} h; give offset and duration, or cut it"


def _finite(wave: np.ndarray, found: Found) -> np.ndarray:
    if max(wave.max(), -wave.min()) <= LOUDEST:  # false where one is NaN
        return wave
    is_number = np.abs(wave) <= LOUDEST
    found.nonfinite_samples += wave.size - int(np.count_nonzero(is_number))
    return np.where(is_number, wave, np.float32(0))


class _Reader:
    """Iterates over a container's samples, (2, n) float32 at one rate, counting what is damaged."""

    def __init__(self, container: Any, rate_hz: int, found: Found, watched: Watched) -> None:
        watched.settle()
        if not container.streams.audio:
            raise failures.UnsupportedFormat(f"{container.format.name}: no audio stream")
        stream = container.streams.audio[0]
        codec = stream.codec_context
        if codec is None or codec.name not in DECODERS:
            raise failures.UnsupportedFormat(
                f"{container.format.name}: a codec that is not read ({codec.name if codec else None})"
            )
        codec.thread_count = 1  # tracks run side by side instead
        codec.options = {"max_samples": _OPTIONS["max_samples"]}
        self.container, self.stream, self.rate_hz, self.found, self.watched = container, stream, rate_hz, found, watched
        found.codec = codec.name
        _refuse_form(codec.layout.nb_channels or 1, codec.sample_rate or rate_hz)  # 0: known with the first frame
        self.decoded = 0  # samples at the source's rate
        self.ended = False

    def __iter__(self) -> Iterator[np.ndarray]:
        kept, samples = list[np.ndarray](), 0
        for piece in self._pieces():
            kept.append(piece)
            samples += piece.shape[1]
            if samples >= BLOCK:
                yield np.concatenate(kept, axis=1)
                kept, samples = [], 0
        if kept:
            yield np.concatenate(kept, axis=1)

    def _pieces(self) -> Iterator[np.ndarray]:
        resampler: Any = None
        form = None
        for frame in self._frames():
            if (frame.layout.name, frame.sample_rate) != form:
                if resampler is not None:  # the stream changed its form midway
                    yield from map(_stereo, resampler.resample(None))
                form, resampler = (frame.layout.name, frame.sample_rate), None
                _refuse_form(frame.layout.nb_channels, frame.sample_rate)
                if frame.sample_rate != self.rate_hz or frame.layout.nb_channels > 2 or frame.format.name not in _FULL_SCALE:
                    resampler = av.AudioResampler(format="flt", layout=frame.layout, rate=self.rate_hz)
                self.found.rate_hz = self.found.rate_hz or frame.sample_rate
                self.found.channels = self.found.channels or frame.layout.nb_channels
            self.decoded += frame.samples
            self.watched.decoded_s += frame.samples / frame.sample_rate
            if resampler is None:
                yield _stereo(frame)
                continue
            frame.pts = None  # samples are counted, time stamps are not trusted
            yield from map(_stereo, resampler.resample(frame))
        if resampler is not None:
            yield from map(_stereo, resampler.resample(None))
        self.ended = True

    def _frames(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            self.watched.settle()
            try:
                packet = next(packets)
            except StopIteration:
                self.watched.settle()
                return
            except _BROKEN:  # the rest of the container cannot be read
                self.watched.settle()
                self.found.skipped_packets += 1
                return
            try:
                yield from packet.decode()
            except _BROKEN:
                self.found.skipped_packets += 1

    def is_truncated(self) -> bool:
        """Tell whether the container declared more than came."""
        if not self.ended or not self.found.rate_hz:
            return False
        declared = self.declared_s()
        return declared - self.decoded / self.found.rate_hz > max(_DECLARED_SLACK_S, 0.01 * declared)

    def declared_s(self) -> float:
        """Return how long the container says it is; 0 where it says nothing."""
        if self.container.format.name == "caf" and self.found.codec.startswith("pcm") and self.found.rate_hz:
            return float(self.stream.frames / self.found.rate_hz)  # its duration is that of the bytes which are there
        if self.stream.duration is not None:
            return float(self.stream.duration * self.stream.time_base)
        return float((self.container.duration or 0) / av.time_base)


def _refuse_form(channels: int, rate_hz: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise failures.UnsupportedFormat(f"{channels:,} channels, expected 1 to {MAX_CHANNELS}")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise failures.UnsupportedFormat(f"a rate of {rate_hz:,} Hz, expected {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,}")


def _stereo(frame: Any) -> np.ndarray:
    """Return a frame's first two channels, (2, n) float32; planar ones of eight channels and more crash PyAV 18."""
    values: np.ndarray = frame.to_ndarray()
    planes = values if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels).T
    full = _FULL_SCALE[frame.format.name]
    wave = planes if full == 1 else planes.astype(np.float32) * np.float32(1 / full)
    return np.repeat(wave, 2, axis=0) if len(wave) == 1 else wave[:2]


@dataclass(frozen=True)
class Codec:
    """One way to write a wave, in FFmpeg's names: muxer, encoder, and the form of the samples it is given."""

    container: str
    encoder: str
    samples: str
    bits: int = 16

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values that `raw` gives."""
        return np.dtype({"s16": np.int16, "s32": np.int32}.get(self.samples.removesuffix("p"), np.float32))

    @property
    def bytes_a_value(self) -> int:
        """Bytes of one value in the file, where it is not compressed."""
        return self.bits // 8 if self.samples.startswith("s") else 4


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


class Encoder:
    """Writes one wave bit-exact, a block at a time: same samples, same bytes, however they are cut into blocks."""

    def __init__(
        self, out: IO[bytes] | str, codec: Codec, *, channels: int, rate_hz: int, bitrate: int | None = None, samples: int = 0
    ) -> None:
        """Begin a file.

        Args:
            out: A seekable file, or a path.
            codec: How to write it.
            channels: One or two.
            rate_hz: The wave's sampling rate.
            bitrate: Bits per second, for lossy codecs.
            samples: How many will come, where it may be more than a WAV of 4 GiB holds; that is written as RF64.
        """
        self.codec, self._rate_hz, self._channels, self._place = codec, rate_hz, channels, 0
        options = {"fflags": "+bitexact"}
        if codec.container == "wav" and samples * channels * codec.bytes_a_value >= _RIFF_BYTES:
            options["rf64"] = "always"
        self._layout = "stereo" if channels == 2 else "mono"
        self._muxer = av.open(out, "w", format=codec.container, options=options)
        stream: Any = self._muxer.add_stream(codec.encoder, rate=rate_hz, options={"flags": "+bitexact"}, layout=self._layout)
        stream.format = codec.samples
        if bitrate:
            stream.bit_rate = bitrate
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._muxer:
            if kind is None:
                self._muxer.mux(self._stream.encode(None))

    def add(self, frames: np.ndarray) -> None:
        """Write the next samples: (samples, channels), as `raw` gives them."""
        planes = np.ascontiguousarray(frames.T) if self.codec.samples.endswith("p") else frames.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(planes, format=self.codec.samples, layout=self._layout)
        frame.sample_rate, frame.pts = self._rate_hz, self._place
        self._place += len(frames)
        self._muxer.mux(self._stream.encode(frame))


def encode(wave: np.ndarray, codec: Codec, *, rate_hz: int, bitrate: int | None = None) -> bytes:
    """Encode a whole wave.

    Args:
        wave: (channels, samples) float32, one channel or two; clipped where the codec holds integers.
        codec: How to write it.
        rate_hz: Its sampling rate.
        bitrate: Bits per second, for lossy codecs.
    """
    out = io.BytesIO()
    with Encoder(out, codec, channels=len(wave), rate_hz=rate_hz, bitrate=bitrate) as encoder:
        for start in range(0, wave.shape[1], BLOCK):
            encoder.add(raw(wave[:, start : start + BLOCK], codec))
    return out.getvalue()


def raw(wave: np.ndarray, codec: Codec) -> np.ndarray:
    """Return a wave's samples as a codec takes them: (samples, channels) of `codec.dtype`, clipped where it holds integers."""
    values = _rounded(wave, codec.bits) if codec.samples.startswith("s") else wave
    return np.ascontiguousarray(values.T)


def wave_of(frames: np.ndarray) -> np.ndarray:
    """Undo `raw`, up to its rounding: (channels, samples) float32."""
    full = np.float32(1 if frames.dtype.kind == "f" else -int(np.iinfo(frames.dtype).min))
    return np.ascontiguousarray(frames.T / full, np.float32)


def _rounded(wave: np.ndarray, bits: int) -> np.ndarray:
    """Round to integers: int16, or 24 bits at the top of int32 as FFmpeg wants them. Exact, full scale being 2^n."""
    full = np.float32(1 << (bits - 1))
    rounded = np.clip(np.rint(wave * full), -full, full - 1)
    return rounded.astype(np.int16) if bits == 16 else rounded.astype(np.int32) << (32 - bits)


class Loudness:
    """Measures integrated loudness with FFmpeg's meter, a block at a time.

    Source: EBU R 128, ITU-R BS.1770.
    """

    def __init__(self, rate_hz: int) -> None:
        self._graph, self._rate_hz, self._place = av.filter.Graph(), rate_hz, 0
        source = self._graph.add_abuffer(format="fltp", sample_rate=rate_hz, layout="stereo", time_base=Fraction(1, rate_hz))
        meter, sink = self._graph.add("ebur128", "metadata=1"), self._graph.add("abuffersink")
        source.link_to(meter)
        meter.link_to(sink)
        self._graph.configure()
        self._found = -math.inf

    def add(self, wave: np.ndarray) -> None:
        """Measure the next samples: (2, samples) float32."""
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = self._rate_hz, self._place
        self._place += wave.shape[1]
        self._graph.push(frame)
        self._pull()

    def lufs(self) -> float | None:
        """End the wave, and return its loudness in LUFS; None below 0.4 s or in silence."""
        self._graph.push(None)
        self._pull()
        return self._found if self._place >= 0.4 * self._rate_hz and self._found > SILENCE_LUFS else None

    def _pull(self) -> None:
        while True:
            try:
                frame: Any = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._found = float(frame.metadata.get("lavfi.r128.I", self._found))
