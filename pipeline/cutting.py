"""One track's stems, and its mix, read forward and cut: the waves of its excerpts, or of the whole, encoded.

All is verified before anything is cut: a stem has the size and, where it is small enough to be read whole, the sha256 that the
index says. Other rates are decode's resampler's, which runs through the whole track: excerpts have no edges, and join, and no
whole track is in memory. (Tones come through it with 90 to 120 dB, through torchaudio's at its defaults with 40 to 80.)
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from sep_batch.pipeline import activity, audio, failures, storage, uris
from sep_batch.pipeline.export_settings import MIX, Export, ExportSettings

LAST_SAMPLES = 2048  # by which a lossy stem, or a resampled one, may end early; they are made zeros


@dataclass(frozen=True)
class Cut:
    """One excerpt, or a whole track, as it is written.

    Attributes:
        number: Of the excerpt; None is the whole track.
        start_s: In the track.
        seconds: How long it is.
        rate_hz: Sampling rate.
        active: Share of it that each stem is active in; None where that is not known.
        audio: The encoded files, by stem; the mix is one of them.
    """

    number: int | None
    start_s: float
    seconds: float
    rate_hz: int
    active: Mapping[str, float | None]
    audio: Mapping[str, bytes]


def cuts(track: Mapping[str, Any], export: Export) -> Iterator[Cut]:
    """Yield a track's excerpts that satisfy the condition, or the whole track.

    Args:
        track: Of a plan's row.
        export: What the export is about.

    Raises:
        TrackError: A stem or the mix is missing, has changed, or cannot be decoded.
    """
    settings = export.settings
    rate_hz = settings.sample_rate_hz or track["rate_hz"]
    read = [*settings.waves, *(stem for stem in settings.min_active if stem not in settings.stems)]
    with contextlib.ExitStack() as stack:
        sources = {name: stack.enter_context(_opened(name, track, export)) for name in read}
        if settings.excerpt_s is None:
            yield _whole(track, sources, settings, rate_hz)
        else:
            yield from _excerpts(track, sources, settings, rate_hz)


def refuse_unwritable(settings: ExportSettings, rate_hz: int | None) -> None:
    """Refuse a codec that does not take the rate or the channels asked for.

    Args:
        settings: Of the export.
        rate_hz: Of the stems, where that is known.

    Raises:
        UsageError: With the codec's own words.
    """
    rate_hz = settings.sample_rate_hz or rate_hz
    if rate_hz is None:
        return
    try:
        _encoded([_frames(np.zeros((2, rate_hz // 10), np.float32), settings)], settings, rate_hz)
    except Exception as error:  # whatever a codec raises
        words = str(error).splitlines()[0]
        raise failures.UsageError(f"--codec {settings.codec}: does not take {rate_hz} Hz ({words})") from error


def _opened(name: str, track: Mapping[str, Any], export: Export) -> IO[bytes]:
    """Open a stem or the mix, and verify what the index says of it."""
    if name == MIX:
        source, found = storage.open_source(track["uri"])
        expected, sha256 = track["source_bytes"], None
    else:
        stem = next((stem for stem in track["stems"] if stem["stem"] == name), None)
        if stem is None:
            raise failures.NotFound(f"stem {name}: none in the index; it has {', '.join(s['stem'] for s in track['stems'])}")
        source, found = storage.open_source(_below(export.out, stem["uri"]))
        expected, sha256 = stem["bytes"], stem["sha256"]
    if expected is not None and found.bytes != expected:
        raise failures.DecodeError(f"{uris.shown(found.uri)}: has changed: {found.bytes} bytes, the index says {expected}")
    if sha256 and isinstance(source, io.BytesIO) and hashlib.sha256(source.getbuffer()).hexdigest() != sha256:
        raise failures.DecodeError(f"{uris.shown(found.uri)}: has changed: another sha256 than the index says")
    return source


def _below(out: str, uri: str) -> str:
    """Return where a stem lies, which is below OUT whatever an index says."""
    if uris.is_local(uri) and not uri.startswith("/") and ".." not in uri.split("/"):
        return f"{out}/{uri}"
    raise failures.BadUri(f"{uris.shown(uri)}: a stem's URI, expected one relative to OUT")


def _excerpts(
    track: Mapping[str, Any], sources: Mapping[str, IO[bytes]], settings: ExportSettings, rate_hz: int
) -> Iterator[Cut]:
    length_s, hop_s = settings.excerpt_s or 0.0, settings.hop_s or 0.0
    samples, begin = round(length_s * rate_hz), round(track["numbers"][0] * hop_s * rate_hz)
    waves = {name: Forward(_decoded(name, source, track, rate_hz, begin), begin) for name, source in sources.items()}
    for number in track["numbers"]:
        start = round(number * hop_s * rate_hz)
        frames = {name: _frames(wave.cut(start, samples), settings) for name, wave in waves.items()}
        active = {name: _active(found, rate_hz) for name, found in frames.items() if name != MIX}
        if all(active[stem] >= share for stem, share in settings.min_active.items()):
            files = {name: _encoded([frames[name]], settings, rate_hz) for name in settings.waves}
            known = {stem: active[stem] for stem in settings.stems}
            yield Cut(number, number * hop_s, samples / rate_hz, rate_hz, known, files)


def _whole(track: Mapping[str, Any], sources: Mapping[str, IO[bytes]], settings: ExportSettings, rate_hz: int) -> Cut:
    """Encode a track a block at a time: of its waves, none is ever there whole."""
    files, samples = {}, round(track["seconds"] * rate_hz)
    for name, source in sources.items():
        pieces = _complete(_decoded(name, source, track, rate_hz, 0, duration_s=track["seconds"]), samples)
        files[name] = _encoded((_frames(piece, settings) for piece in pieces), settings, rate_hz, samples)
    known = {stem["stem"]: stem["active_ratio"] for stem in track["stems"] if stem["stem"] in settings.stems}
    return Cut(None, 0.0, track["seconds"], rate_hz, known, files)


def _decoded(
    name: str, source: IO[bytes], track: Mapping[str, Any], rate_hz: int, begin: int, duration_s: float | None = None
) -> Iterator[np.ndarray]:
    """Decode from a sample of the track on: the mix is the source's, from where separation began in it."""
    offset_s = (track["offset_s"] or 0.0) if name == MIX else 0.0
    return audio.decode(source, rate_hz=rate_hz, offset_s=offset_s + begin / rate_hz, duration_s=duration_s)[0]


def _complete(pieces: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Yield a wave's pieces, and see that they are as many samples as the index says."""
    place = 0
    for piece in pieces:
        place += piece.shape[1]
        yield piece
    if samples - place > LAST_SAMPLES:
        raise failures.DecodeError(f"ends after {place} samples, expected {samples}")


def _frames(wave: np.ndarray, settings: ExportSettings) -> np.ndarray:
    """Return a wave as its codec takes it: (samples, channels)."""
    return audio.raw(wave.mean(axis=0, keepdims=True) if settings.mono else wave, settings.packing)


def _active(frames: np.ndarray, rate_hz: int) -> float:
    """Return the share of an excerpt that a stem is active in, as whoever reads it will find."""
    return activity.of_wave(audio.wave_of(frames).T, rate_hz).ratio


def _encoded(blocks: Iterable[np.ndarray], settings: ExportSettings, rate_hz: int, samples: int = 0) -> bytes:
    out, channels = io.BytesIO(), 1 if settings.mono else 2
    how: dict[str, Any] = {"channels": channels, "rate_hz": rate_hz, "bitrate": settings.bitrate, "samples": samples}
    with audio.Encoder(out, settings.packing, **how) as encoder:
        for block in blocks:
            for start in range(0, len(block), audio.BLOCK):
                encoder.add(block[start : start + audio.BLOCK])
    return out.getvalue()


class Forward:
    """A wave that comes in pieces, and is cut at places that never go back."""

    def __init__(self, pieces: Iterator[np.ndarray], begin: int) -> None:
        """Take the pieces, (channels, n) each, and the place of their first sample."""
        self._pieces, self._held, self._place = pieces, list[np.ndarray](), begin

    def cut(self, begin: int, samples: int) -> np.ndarray:
        """Return so many samples from `begin` on; where the wave ends a little early, with zeros.

        Raises:
            DecodeError: It ends much too early.
        """
        place = self._place + sum(piece.shape[1] for piece in self._held)
        while place < begin + samples and (piece := next(self._pieces, None)) is not None:
            self._held.append(piece)
            place += piece.shape[1]
            self._drop(begin)
        missing = max(0, begin + samples - place)
        if missing > LAST_SAMPLES:
            raise failures.DecodeError(f"ends after {place} samples, expected at least {begin + samples}")
        self._drop(begin)
        wave = np.concatenate([*self._held, np.zeros((2, missing), np.float32)], axis=1)
        return wave[:, begin - self._place : begin - self._place + samples]

    def _drop(self, begin: int) -> None:
        """Let go of the pieces that lie wholly before a place."""
        while self._held and self._place + self._held[0].shape[1] <= begin:
            self._place += self._held.pop(0).shape[1]
