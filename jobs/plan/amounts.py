"""Amounts of a plan: seconds of audio, known or estimated; bytes of stems; memory of its largest part.

Only arithmetic, except for the file headers that jobs/plan/durations.py may read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sep_batch.jobs.plan.durations import Lengths, lengths
from sep_batch.jobs.plan.known_sizes import KnownSizes
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages.analyze import PATCHES_PER_PART
from sep_batch.pipeline.stages.estimates import patch_bytes

FLAC_OF_PCM = {"16": 0.38, "24": 0.53}  # measured on the stems of 8 songs; for 24 bits, scaled by excerpts of them


@dataclass(frozen=True)
class Amounts:
    """Audio, output and memory of a plan.

    Attributes:
        audio_s: Seconds of audio to separate, known or estimated.
        estimated_s: Seconds among these that are estimated from file sizes or the mean of the other tracks.
        unknown: Number of tracks of unknown duration; no other field counts them.
        output_bytes: Bytes of the stems.
        output: Basis of `output_bytes`, as text.
        stft: Stage that computes the STFT: "cpu" is Analyze, parts are spectra; "gpu" is Separate, parts are waves.
        part_bytes: Bytes of the largest part between Analyze and Separate.
        stems_bytes: Bytes of the same part's stems between Separate and Write.
    """

    audio_s: float
    estimated_s: float
    unknown: int
    output_bytes: int
    output: str
    stft: str
    part_bytes: int
    stems_bytes: int


def amounts(todo: pa.Table, settings: Settings, past: KnownSizes, stft: str = "cpu") -> Amounts:
    """Compute the amounts of a plan.

    Args:
        todo: Tracks that are left to do.
        settings: Settings of the run.
        past: Durations and sizes from OUT's journal.
        stft: Stage that computes the STFT: "cpu" is Analyze, "gpu" is Separate.
    """
    durations = lengths(todo, settings, past)
    audio_s, estimated_s = float(durations.known.sum() + durations.estimated.sum()), float(durations.estimated.sum())
    tracks, longest = len(durations.known) + len(durations.estimated), _longest(durations)
    bytes_frame, fixed, basis = _packing(settings, past)
    frames, stems = audio_s * settings.written_rate_hz, len(settings.written_stems)
    part, waves = _part_bytes(longest, settings, stft)
    output = round(stems * (frames * bytes_frame + fixed * tracks))
    return Amounts(audio_s, estimated_s, durations.unknown, output, basis, stft, part, waves)


def _longest(durations: Lengths) -> float:
    longest = [float(seconds.max()) for seconds in (durations.known, durations.estimated) if len(seconds)]
    return max(longest, default=math.inf if durations.unknown else 0.0)


def _packing(settings: Settings, past: KnownSizes) -> tuple[float, int, str]:
    """Return bytes per sample of all channels, additional bytes per stem, and the basis of both as text."""
    codec, channels, rate_hz = settings.codec, settings.written_channels, settings.written_rate_hz
    pcm = float(channels * codec.bytes_a_value)
    if settings.bitrate:
        return settings.bitrate / 8 / rate_hz, 0, f"{settings.format} at {settings.bitrate / 1000:g} kbit/s"
    if settings.format == "wav":
        empty = encode(np.zeros((channels, 1), np.float32), codec, rate_hz=rate_hz)
        return pcm, len(empty) - round(pcm), f"wav of {settings.bit_depth} bits, exact" if codec.bits == 24 else "wav, exact"
    if past.stem_bytes_frame:
        return past.stem_bytes_frame, 0, f"flac at {past.stem_bytes_frame / pcm:.2f} of PCM, measured on OUT's own stems"
    ratio = FLAC_OF_PCM[settings.bit_depth]
    return ratio * pcm, 0, f"flac at {ratio} of PCM, measured on 8 songs"


def _part_bytes(longest_s: float, settings: Settings, stft: str) -> tuple[int, int]:
    """Return the bytes of a plan's largest part between Analyze and Separate, and of its stems after that."""
    spec = settings.spec
    most = PATCHES_PER_PART * spec.patch_samples
    samples = round(min(2 * most, longest_s * spec.sample_rate_hz))  # the second part of a track is as large as a later one
    frames, most_frames = math.ceil((samples + spec.frame_length) / spec.hop), PATCHES_PER_PART * spec.patch_frames
    is_cut = frames > most_frames
    if not samples:
        frames = 0
    elif is_cut:  # later parts carry the last patch of the part before
        frames = max(most_frames, min(frames - most_frames, most_frames) + spec.patch_frames)
    if stft == "gpu":
        length = frames * spec.hop + spec.frame_length - spec.hop if frames else 0
        part = length * spec.channels * np.dtype(np.float32).itemsize
    else:
        part = frames * spec.channels * spec.kept_bins * np.dtype(np.complex64).itemsize
    stems = len(settings.written_stems) * min(samples, most) * spec.channels * settings.form.dtype.itemsize
    if settings.mwf and is_cut:
        return part, max(stems, PATCHES_PER_PART * patch_bytes(spec))
    return part, stems
