"""Songs with true stems, and OUTs whose stems are these with noise of a known level."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from signals import RATE_HZ, noise, tone

from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode

SAMPLES = RATE_HZ // 2
STEMS = ("vocals", "drums", "bass", "other")
FLOAT = codecs.CODECS["wav"]["float"]


def wave_of(stem: str, hz: int) -> np.ndarray:
    """Return the wave of a song's true stem: a tone of its own pitch, so that no two are alike."""
    return tone(hz * (1 + STEMS.index(stem)), SAMPLES, level=0.2)


def write(path: Path, wave: np.ndarray) -> Path:
    """Write a float WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(wave, FLOAT, rate_hz=RATE_HZ))
    return path


def write_song(folder: Path, hz: int, stems: tuple[str, ...] = STEMS) -> None:
    """Write a song in MUSDB's layout."""
    write(folder / "mixture.wav", np.sum([wave_of(stem, hz) for stem in stems], axis=0))
    for stem in stems:
        write(folder / f"{stem}.wav", wave_of(stem, hz))


def write_stem_mp4(path: Path, hz: int) -> None:
    """Write a song as one file of five ALAC streams: mixture, drums, bass, other, vocals."""
    names = ("drums", "bass", "other", "vocals")
    waves = [np.sum([wave_of(stem, hz) for stem in names], axis=0), *(wave_of(stem, hz) for stem in names)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as muxer:
        streams = [muxer.add_stream("alac", rate=RATE_HZ, layout="stereo") for _ in waves]
        for wave, stream in zip(waves, streams, strict=True):
            fifo = av.AudioFifo()
            frame = av.AudioFrame.from_ndarray(np.rint(wave * 32768).astype(np.int16), format="s16p", layout="stereo")
            frame.sample_rate, frame.pts = RATE_HZ, 0
            fifo.write(frame)
            while (block := fifo.read(4096, partial=True)) is not None:
                muxer.mux(stream.encode(block))
            muxer.mux(stream.encode(None))


def write_manifest(path: Path, rows: list[dict[str, str | None]]) -> Path:
    """Write a manifest."""
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def noisy(wave: np.ndarray, seed: int, level: float = 0.01) -> np.ndarray:
    """Return a wave with noise."""
    return wave + noise(wave.shape[1], level=level, seed=seed)
