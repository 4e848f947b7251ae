"""One track's stems, and its mix, read forward and cut: the encoded waves of its excerpts, or of the whole track.

Other sample rates come from decode's resampler, which runs through the whole track: so excerpts join without edges, and no whole
track is in memory. (Tones pass through it with 90 to 120 dB, through torchaudio's at its defaults with 40 to 80 dB.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from sep_batch.pipeline import audio, errors
from sep_batch.pipeline.audio.downmix import Downmix
from sep_batch.pipeline.export.forward import LAST_SAMPLES, Forward
from sep_batch.pipeline.export.packing import active_in, encoded, frames_of
from sep_batch.pipeline.export.settings import MIX, Export, ExportSettings
from sep_batch.pipeline.export.verified import opened


@dataclass(frozen=True)
class Cut:
    """One excerpt, or a whole track, as it is written.

    Attributes:
        number: Number of the excerpt; None is the whole track.
        start_s: Start within the track.
        seconds: Duration.
        rate_hz: Sample rate.
        active: Share of it in which each stem is active; None if unknown.
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
        track: Track of a plan's row.
        export: Settings and paths of the export.

    Raises:
        TrackError: A stem or the mix is missing, has changed, or cannot be decoded.
    """
    settings = export.settings
    rate_hz = settings.sample_rate_hz or settings.packing.rate_for(track["rate_hz"])
    read = [*settings.waves, *(stem for stem in settings.min_active if stem not in settings.stems)]
    with contextlib.ExitStack() as stack:
        sources = {name: stack.enter_context(opened(name, track, export)) for name in read}
        if settings.excerpt_s is None:
            yield _whole(track, sources, settings, rate_hz, export.downmix)
        else:
            yield from _excerpts(track, sources, settings, rate_hz, export.downmix)


def _excerpts(
    track: Mapping[str, Any], sources: Mapping[str, IO[bytes]], settings: ExportSettings, rate_hz: int, downmix: Downmix
) -> Iterator[Cut]:
    length_s, hop_s = settings.excerpt_s or 0.0, settings.hop_s or 0.0
    samples, begin = round(length_s * rate_hz), round(track["numbers"][0] * hop_s * rate_hz)
    waves = {name: Forward(_decoded(name, source, track, rate_hz, begin, downmix), begin) for name, source in sources.items()}
    for number in track["numbers"]:
        start = round(number * hop_s * rate_hz)
        frames = {name: frames_of(wave.cut(start, samples), settings) for name, wave in waves.items()}
        active = {name: active_in(stem_frames, rate_hz) for name, stem_frames in frames.items() if name != MIX}
        if all(active[stem] >= share for stem, share in settings.min_active.items()):
            files = {name: encoded([frames[name]], settings, rate_hz) for name in settings.waves}
            shares = {stem: active[stem] for stem in settings.stems}
            yield Cut(number, number * hop_s, samples / rate_hz, rate_hz, shares, files)


def _whole(
    track: Mapping[str, Any], sources: Mapping[str, IO[bytes]], settings: ExportSettings, rate_hz: int, downmix: Downmix
) -> Cut:
    """Encode a track block by block: none of its waves is ever in memory whole."""
    files, samples = {}, round(track["seconds"] * rate_hz)
    for name, source in sources.items():
        pieces = _complete(_decoded(name, source, track, rate_hz, 0, downmix, duration_s=track["seconds"]), samples)
        files[name] = encoded((frames_of(piece, settings) for piece in pieces), settings, rate_hz, samples)
    shares = {stem["stem"]: stem["active_ratio"] for stem in track["stems"] if stem["stem"] in settings.stems}
    return Cut(None, 0.0, track["seconds"], rate_hz, shares, files)


def _decoded(
    name: str,
    source: IO[bytes],
    track: Mapping[str, Any],
    rate_hz: int,
    begin: int,
    downmix: Downmix,
    duration_s: float | None = None,
) -> Iterator[np.ndarray]:
    """Decode a stem or the mix from a sample of the track on; the mix is the source's, by the rules of its separation."""
    if name != MIX:
        return audio.decode(source, rate_hz=rate_hz, offset_s=begin / rate_hz, duration_s=duration_s)[0]
    offset_s = (track["offset_s"] or 0.0) + begin / rate_hz
    rule: Downmix = "first-two" if track.get("decode_rules") is None else downmix
    pieces, facts = audio.decode(source, rate_hz=rate_hz, offset_s=offset_s, duration_s=duration_s, downmix=rule)
    return _of_stream(track.get("source_stream") or 0, pieces, facts)


def _of_stream(number: int, pieces: Iterator[np.ndarray], facts: audio.Found) -> Iterator[np.ndarray]:
    """Yield a mix's pieces, and check that they are from the audio stream that was separated."""
    for piece in pieces:
        if facts.stream != number:
            raise errors.DecodeError(
                f"its stems are of audio stream {number}, but stream {facts.stream} is read now; separate it again"
            )
        yield piece


def _complete(pieces: Iterator[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """Yield a wave's pieces, and check that they have as many samples as the index says."""
    total = 0
    for piece in pieces:
        total += piece.shape[1]
        yield piece
    if samples - total > LAST_SAMPLES:
        raise errors.DecodeError(f"ends after {total} samples, expected {samples}")
