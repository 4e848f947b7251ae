"""Synthesised songs for `bench`, and a catalog of them."""

from __future__ import annotations

import numpy as np

from sep_batch.jobs.demo import synthesis
from sep_batch.jobs.demo.demo import FLAC, MP3
from sep_batch.pipeline import storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode

RATE_HZ = 44_100
SONG_S = 12.0  # duration of the synthesised song; longer tracks repeat it
TRACK_S = 60.0
MP3_BITRATE = 192_000


def write_catalog(folder: str, seconds: float) -> int:
    """Write tracks of about a minute, MP3 and FLAC in turn, at least one of each; return their number.

    Args:
        folder: The tracks go to `catalog` below it.
        seconds: Seconds of audio in all tracks together.
    """
    tracks = max(2, round(seconds / TRACK_S))
    wave = np.sum(list(played(seconds / tracks).values()), axis=0)
    for number in range(tracks):
        codec = (MP3, FLAC)[number % 2]
        shifted = np.roll(wave, number * RATE_HZ, axis=1)
        storage.put(f"{folder}/catalog/{number:04}.{codec.container}", encoded(shifted, codec))
    return tracks


def played(seconds: float) -> dict[str, np.ndarray]:
    """Return the stems of a song, (2, samples) float32 each; the song repeats after `SONG_S`."""
    song, samples = synthesis.song(1, min(seconds, SONG_S), RATE_HZ), round(seconds * RATE_HZ)
    return {name: np.resize(wave.T, (samples, 2)).T for name, wave in song.items()}


def encoded(wave: np.ndarray, codec: codecs.Codec) -> bytes:
    """Return a file of a wave, (2, samples) float32 at `RATE_HZ`; MP3 at `MP3_BITRATE`."""
    return encode(wave, codec, rate_hz=RATE_HZ, bitrate=MP3_BITRATE if codec == MP3 else None)
