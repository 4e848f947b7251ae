"""How much a plan is: seconds of audio, known or estimated; bytes of stems; memory of its largest part.

Arithmetic only, but for the sizes of some files, which storage is asked for where nothing else is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sep_batch.jobs.past import Past
from sep_batch.pipeline import audio, failures, storage, uris
from sep_batch.pipeline.rows import EXTRA
from sep_batch.pipeline.settings import Settings
from sep_batch.pipeline.stages import PATCHES_PER_PART

LENGTHS = ("probed_s", "duration", "manifest_audio_s")  # further columns of a manifest that say how long a file is
SIZE = "size"
ASKED = 200  # files whose size is asked for; the mean of so many stands for all
ASKED_AT_ONCE = 16
BYTES_S = {"wav": 176_400.0, "aif": 176_400.0, "aiff": 176_400.0, "flac": 100_000.0, "opus": 16_000.0, "ogg": 20_000.0}
OTHER_BYTES_S = 24_000.0  # 192 kbit/s: mp3, m4a and the like
FLAC_OF_PCM = {"16": 0.38, "24": 0.59}  # the 8 songs, 2 stems; 24 bits hold the same music and 8 bits of noise

Excerpt = Callable[[float], float]


@dataclass(frozen=True)
class Amounts:
    """How much a plan is.

    Attributes:
        audio_s: Seconds to separate, as far as anything is known.
        estimated_s: Of these, those estimated from sizes, or from the mean of the other tracks.
        unknown: Tracks of which nothing is known, and which are counted nowhere.
        output_bytes: Of the stems.
        output: How that was reckoned, in words.
        spectrum_bytes: Of the largest part, as it travels from Analyze to Separate.
        stems_bytes: Of the same part, as it travels to Write.
    """

    audio_s: float
    estimated_s: float
    unknown: int
    output_bytes: int
    output: str
    spectrum_bytes: int
    stems_bytes: int


def amounts(todo: pa.Table, settings: Settings, past: Past) -> Amounts:
    """Reckon how much a plan is.

    Args:
        todo: The tracks that are left to do.
        settings: Of the run.
        past: What OUT's journal knows.
    """
    known, estimated, unknown = _seconds(todo, settings, past)
    seconds = [*known, *estimated]
    bytes_frame, fixed, words = _packing(settings, past)
    frames, stems = sum(seconds) * settings.spec.sample_rate_hz, len(settings.stems)
    longest = max(seconds, default=math.inf if unknown else 0.0)
    spectrum, waves = _part(longest, settings)
    output = round(stems * (frames * bytes_frame + fixed * len(seconds)))
    return Amounts(sum(seconds), sum(estimated), unknown, output, words, spectrum, waves)


def _seconds(todo: pa.Table, settings: Settings, past: Past) -> tuple[list[float], list[float], int]:
    """Return the seconds of each track that are known, those that are estimated, and of how many tracks nothing is known."""
    known, estimated, unheard = list[float](), list[float](), list[tuple[str, Excerpt]]()
    lengths, sizes = _column(todo, LENGTHS), _column(todo, (SIZE,))
    rows = zip(*(todo.column(name).to_pylist() for name in ("id", "uri", "offset_s", "duration_s")), strict=True)
    for (id, uri, offset, duration), length, size in zip(rows, lengths, sizes, strict=True):
        most = settings.duration_s if duration is None else duration
        excerpt = _excerpt(settings.offset_s if offset is None else offset, most)
        if whole := past.seconds.get(id) or length:
            known.append(excerpt(whole))
        elif most is not None:
            known.append(excerpt(math.inf))
        elif size:
            estimated.append(excerpt(size / _bytes_s(uri, past)))
        else:
            unheard.append((uri, excerpt))
    if not unheard:
        return known, estimated, 0
    answers = _answers(unheard[:: math.ceil(len(unheard) / ASKED)], past)
    others = answers or [*known, *estimated]
    if not others:
        return known, estimated, len(unheard)
    return known, [*estimated, *answers, *[sum(others) / len(others)] * (len(unheard) - len(answers))], 0


def _answers(asked: list[tuple[str, Excerpt]], past: Past) -> list[float]:
    """Return the seconds of these files, by their sizes, as far as storage gives them."""
    with ThreadPoolExecutor(ASKED_AT_ONCE) as threads:
        sizes = list(threads.map(_size, (uri for uri, _ in asked)))
    return [excerpt(size / _bytes_s(uri, past)) for (uri, excerpt), size in zip(asked, sizes, strict=True) if size]


def _size(uri: str) -> int | None:
    try:
        return storage.info(uri).bytes
    except failures.TrackError:  # the run will say what it is
        return None


def _excerpt(begin: float, most: float | None) -> Excerpt:
    """Return what offset and duration leave of a length; no more than a track may last."""
    longest = audio.MAX_S if most is None else min(most, audio.MAX_S)
    return lambda whole: min(max(0.0, whole - begin), longest)


def _column(todo: pa.Table, names: Iterable[str]) -> list[float | None]:
    """Return the first of these further columns that holds numbers, what is no length left out; nothing but None without one."""
    kinds = {field.name: field.type for field in todo.schema.field(EXTRA).type} if EXTRA in todo.column_names else {}
    for name in names:
        if name in kinds and (pa.types.is_integer(kinds[name]) or pa.types.is_floating(kinds[name])):
            values = pc.struct_field(todo.column(EXTRA), name).to_pylist()
            return [value if value and 0 < value < math.inf else None for value in values]
    return [None] * todo.num_rows


def _bytes_s(uri: str, past: Past) -> float:
    extension = uris.name(uri).rpartition(".")[2].lower()
    return past.source_bytes_s.get(extension) or BYTES_S.get(extension, OTHER_BYTES_S)


def _packing(settings: Settings, past: Past) -> tuple[float, int, str]:
    """Return bytes a sample of all channels, bytes a stem besides, and in words how that is known."""
    codec, channels, rate_hz = settings.codec, settings.spec.channels, settings.spec.sample_rate_hz
    pcm = float(channels * codec.bytes_a_value)
    if settings.bitrate:
        return settings.bitrate / 8 / rate_hz, 0, f"mp3 at {settings.bitrate / 1000:g} kbit/s"
    if settings.format == "wav":
        empty = audio.encode(np.zeros((channels, 1), np.float32), codec, rate_hz=rate_hz)
        return pcm, len(empty) - round(pcm), f"wav of {settings.bit_depth} bits, exact" if codec.bits == 24 else "wav, exact"
    if past.stem_bytes_frame:
        return past.stem_bytes_frame, 0, f"flac at {past.stem_bytes_frame / pcm:.2f} of PCM, as OUT's own"
    ratio = FLAC_OF_PCM[settings.bit_depth]
    return ratio * pcm, 0, f"flac at {ratio} of PCM, as 8 songs gave"


def _part(longest_s: float, settings: Settings) -> tuple[int, int]:
    """Return the bytes of a plan's largest part: its spectrum, and its stems."""
    spec = settings.spec
    most = PATCHES_PER_PART * spec.patch_samples
    samples = min(most, longest_s * spec.sample_rate_hz)
    patches = min(PATCHES_PER_PART, math.ceil((samples + spec.frame_length) / spec.patch_samples)) if samples else 0
    if longest_s * spec.sample_rate_hz > most:
        patches += 1  # the last patch of the part before
    spectrum = patches * spec.patch_frames * spec.channels * spec.kept_bins * np.dtype(np.complex64).itemsize
    stems = len(settings.stems) * round(samples) * spec.channels * settings.codec.dtype.itemsize
    return spectrum, stems
