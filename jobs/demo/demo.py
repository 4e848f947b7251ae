"""`demo`: synthesise a catalog, separate it, and show the index and the files to listen to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.run.report import lines
from sep_batch.jobs.setup.options import DEFAULT_MODEL
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.audio import codecs
from sep_batch.pipeline.audio.encoding import encode
from sep_batch.pipeline.manifest import lists
from sep_batch.pipeline.out import index

WIDTH = 100  # width of the table without a terminal
BROKEN_BYTES = 40_000
VOCALS, ACCOMPANIMENT = "vocals", "accompaniment"

MP3 = codecs.Codec("mp3", "libmp3lame", "fltp")
M4A = codecs.Codec("ipod", "aac", "fltp")
OPUS = codecs.Codec("ogg", "libopus", "flt")
FLAC = codecs.Codec("flac", "flac", "s16")
WAV = codecs.Codec("wav", "pcm_s16le", "s16")


class Song(NamedTuple):
    """One file of the catalog; `seed` determines its key, tempo and melody."""

    file: str
    artist: str
    seed: int
    seconds: float
    codec: codecs.Codec
    rate_hz: int = 44_100
    channels: int = 2
    bitrate: int | None = None


SONGS = (
    Song("first-light.mp3", "The Sines", 3, 12.0, MP3, bitrate=192_000),
    Song("night-bus.m4a", "The Sines", 4, 10.0, M4A, bitrate=160_000),
    Song("low-tide.flac", "Ada Formant", 6, 11.0, FLAC),
    Song("paper-kites.ogg", "Ada Formant", 8, 9.0, OPUS, rate_hz=48_000, bitrate=128_000),
    Song("glass-bay.wav", "Noise Burst", 5, 8.0, WAV, rate_hz=48_000),
    Song("one-mic.wav", "Noise Burst", 2, 10.0, WAV, channels=1),
)
BROKEN = "broken.mp3"
OUT = "catalog.stems"


def run_demo(folder: Path, *, model: str = DEFAULT_MODEL) -> int:
    """Synthesise a catalog, separate it, and show the index. Existing files and stems are kept.

    Args:
        folder: Folder for catalog, manifest and stems.
        model: Name or folder of the model.

    Returns:
        Exit code of the run; the broken track of the catalog does not change it.

    Raises:
        RunError: The folder cannot be written to, or the run could not start.
    """
    from sep_batch.jobs.run.run import run_job

    console = Console(stderr=True, highlight=False)
    try:
        made = write_catalog(folder)
    except errors.TrackError as error:
        raise errors.NotRunnableError(f"FOLDER {error}") from error
    console.print(f"{made} files synthesised in {folder}/catalog; separating with {model}", soft_wrap=True)
    summary = run_job(
        f"{folder}/catalog.parquet", f"{folder}/{OUT}", progress=Progress.on(console), model=model, ok_with_failures=True
    )
    for line in lines(summary):
        console.print(line, soft_wrap=True)
    _show(folder)
    return summary.exit_code


def write_catalog(folder: Path) -> int:
    """Write the songs, one broken file, and their manifest.

    Args:
        folder: Folder of the manifest; the audio goes to `catalog` below it.

    Returns:
        Number of audio files written; existing ones are kept.
    """
    missing = [song for song in SONGS if not storage.exists(f"{folder}/catalog/{song.file}")]
    for song in missing:
        storage.put(f"{folder}/catalog/{song.file}", render(song))
    if broken := not storage.exists(f"{folder}/catalog/{BROKEN}"):
        storage.put(f"{folder}/catalog/{BROKEN}", _noise_as_mp3())
    rows = [(song.file, song.artist) for song in SONGS] + [(BROKEN, "Nobody")]
    columns = {
        "id": [file.partition(".")[0] for file, _ in rows],
        "uri": [f"catalog/{file}" for file, _ in rows],
        "artist": [artist for _, artist in rows],
    }
    lists.write(pa.table(columns), f"{folder}/catalog.parquet")
    return len(missing) + broken


def render(song: Song) -> bytes:
    """Synthesise the mix of a song and encode it.

    Args:
        song: Parameters of the song, and its file format.
    """
    from sep_batch.jobs.demo import synthesis

    stems = synthesis.song(song.seed, song.seconds, song.rate_hz)
    mix = stems[VOCALS] + stems[ACCOMPANIMENT]
    wave = mix if song.channels == 2 else mix.mean(axis=0, keepdims=True)
    return encode(wave, song.codec, rate_hz=song.rate_hz, bitrate=song.bitrate)


def _noise_as_mp3() -> bytes:
    """Return an MPEG sync word followed by random bytes without another one: a file that is no valid MP3."""
    return b"\xff\xfb\x90\x64" + np.random.default_rng(0).integers(0, 255, BROKEN_BYTES, np.uint8).tobytes()


def _show(folder: Path) -> None:
    """Print the index, a file to listen to, and the next command."""
    rows = index.read(f"{folder}/{OUT}").to_pylist()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    console.print(_table(rows))
    if vocals := next((stem for row in rows for stem in row["stems"] or () if stem["stem"] == VOCALS), None):
        console.print(f"Listen to {folder}/{OUT}/{vocals['uri']}; all stems are in {folder}/{OUT}/stems", soft_wrap=True)
    console.print("Next: sep-batch run YOUR_FOLDER", soft_wrap=True)


def _table(rows: list[dict[str, Any]]) -> Table:
    """Return the index as a table with one line per track."""
    table = Table("id", "status", "error_class", box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in ("audio_s", f"{VOCALS}\nrms_dbfs", f"{ACCOMPANIMENT}\nrms_dbfs"):
        table.add_column(name, justify="right")
    table.add_column(f"{VOCALS} file", overflow="fold")
    for row in rows:
        stems = {stem["stem"]: stem for stem in row["stems"] or ()}
        levels = [stems.get(name, {}).get("rms_dbfs") for name in (VOCALS, ACCOMPANIMENT)]
        numbers = ["" if number is None else f"{number:.1f}" for number in (row["audio_s"], *levels)]
        table.add_row(row["id"], row["status"], row["error_class"], *numbers, stems.get(VOCALS, {}).get("uri"))
    return table
