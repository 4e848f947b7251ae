"""Material of the acceptance: device and sizes, a model, signals and songs. Waves are (2, samples) float32, full scale 1."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from checkout import HERE
from torch import Tensor, nn

from sep_batch.jobs.bench.catalog import encoded
from sep_batch.jobs.demo.demo import FLAC, MP3
from sep_batch.jobs.demo.synthesis import song
from sep_batch.model import weights
from sep_batch.model.parts import Part, split_parts
from sep_batch.model.separator import CPU_PRECISIONS, GPU_BATCH, PRECISIONS, Separator
from sep_batch.model.spec import PRESETS, ModelSpec
from sep_batch.model.spectrogram import magnitude, patch_wave, spectrum_of
from sep_batch.model.unet import UNet
from sep_batch.pipeline.manifest.audio_files import AUDIO_EXTENSIONS

SEED = 20
LEAKY_GAIN, RELU_GAIN = math.sqrt(2 / 1.04), math.sqrt(2)  # keep the level from layer to layer
HEAD_GAIN = 0.3  # logits of music then spread over a few units, so that masks differ from one half
LOUDER = 64  # times full scale, at which float16 overflows with the published weights
SONGS, SONG_S, DIFFERENT = 120, (150.0, 280.0), 16
SONGS_SMALL, SONG_SMALL_S = 4, (2.0, 5.0)
PATTERN_S = 12.0  # of a synthesised song, which then repeats


@dataclass(frozen=True)
class Setup:
    """Device, sizes, model and songs of an acceptance.

    Attributes:
        device: Torch's device, "cuda" or "cpu".
        small: Tiny sizes: small golden networks, short waves.
        engine: Engine of the whole runs, "ray" or "local".
        work: Folder for what is made: model, songs, outputs.
        given_model: Folder of a converted model; None makes one of random weights.
        given_songs: Folder of songs; None synthesises them.
    """

    device: str
    small: bool
    engine: str
    work: Path
    given_model: Path | None = None
    given_songs: Path | None = None

    @property
    def on_gpu(self) -> bool:
        """True on a GPU."""
        return self.device.startswith("cuda")

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that the device supports."""
        return tuple(PRECISIONS) if self.on_gpu else CPU_PRECISIONS

    @property
    def batch(self) -> int:
        """Number of patches in a batch, where it is not what is measured."""
        return 3 if self.small else GPU_BATCH

    @property
    def cores(self) -> int:
        """Number of usable cores."""
        return len(os.sched_getaffinity(0))

    def facts(self) -> dict[str, Any]:
        """Return what the numbers depend on."""
        model = str(self.given_model) if self.given_model else "small golden weights" if self.small else "random weights"
        songs = str(self.given_songs) if self.given_songs else "synthesised songs"
        return {"device": self.device, "small": self.small, "engine": self.engine, "model": model, "songs": songs}

    def command(self) -> list[str]:
        """Return the command of a process with the same setup."""
        flags = ["--device", self.device, "--engine", self.engine, "--work", str(self.work), *["--small"] * self.small]
        flags += ["--model", str(self.given_model)] if self.given_model else []
        flags += ["--songs", str(self.given_songs)] if self.given_songs else []
        return [sys.executable, str(HERE / "accept.py"), *flags]

    @cached_property
    def model(self) -> Path:
        """Folder of the converted model."""
        if self.given_model:
            return self.given_model
        folder = self.work / "model"
        if not (folder / weights.MODEL_FILE).exists():
            save_model(*(_golden_model() if self.small else (spec := PRESETS["spleeter:2stems"], random_tensors(spec))), folder)
        return folder

    @cached_property
    def loaded(self) -> weights.Loaded:
        """The model's spec, its tensors by name, their sha256."""
        return weights.load(self.model)

    @property
    def spec(self) -> ModelSpec:
        """The model's description."""
        return self.loaded.spec

    @cached_property
    def _separators(self) -> dict[tuple[Any, ...], Separator]:
        return {}

    def separator(self, precision: str = "float32", *, batch: int | None = None, threads: int = 1) -> Separator:
        """Return a separator on the device; the same arguments return the same one."""
        key = (precision, batch or self.batch, threads)
        if key not in self._separators:
            options: dict[str, Any] = {"device": self.device, "batch": key[1], "threads": threads, "precision": precision}
            self._separators[key] = Separator(self.spec, self.loaded.tensors, **options)
        return self._separators[key]

    @cached_property
    def on_cpu(self) -> Separator:
        """The separator that others are compared with: float32, on all cores of the CPU."""
        return Separator(self.spec, self.loaded.tensors, threads=self.cores)

    @cached_property
    def unet(self) -> UNet:
        """The first plain network, float32 on the CPU."""
        networks = nn.ModuleDict({stem: UNet(self.spec) for stem in self.spec.stems})
        networks.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in self.loaded.tensors.items()})
        first: UNet = networks[self.spec.stems[0]].eval()  # type: ignore[assignment]
        return first

    @cached_property
    def music(self) -> np.ndarray:
        """30 s of a song, fewer where sizes are small."""
        return mixed(SEED, 3.0 if self.small else 30.0)

    @cached_property
    def patch(self) -> Tensor:
        """Magnitudes of one patch of music on the CPU, (1, 2, T, F)."""
        spectrum = spectrum_of(patch_wave(torch.from_numpy(self.music), 0, self.spec), self.spec)
        return magnitude(spectrum[None, ..., : self.spec.bins]).contiguous()

    def part(self, patches: int, *, as_waves: bool = False, wave: np.ndarray | None = None) -> Part:
        """Return a part of so many whole patches of a wave, by default music, which repeats."""
        samples = patches * self.spec.patch_samples - self.spec.frame_length
        repeated = np.ascontiguousarray(np.resize((self.music if wave is None else wave).T, (samples, 2)).T)
        (part,) = split_parts([torch.from_numpy(repeated)], self.spec, patches, as_waves=as_waves)
        return part

    @cached_property
    def songs(self) -> Path:
        """Folder of the songs; synthesised ones are FLAC and MP3 in turn."""
        if self.given_songs:
            return self.given_songs
        folder = self.work / "songs"
        if not folder.exists():
            count, lengths = (SONGS_SMALL, SONG_SMALL_S) if self.small else (SONGS, SONG_S)
            write_songs(folder, count, lengths, self.cores)
        return folder

    def song_count(self) -> int:
        """Return the number of songs that are separated: at most `SONGS`."""
        files = [path for path in self.songs.rglob("*") if path.suffix.lower() in AUDIO_EXTENSIONS]
        return min(len(files), SONGS)


def golden() -> Any:
    """Return the module of the tests' golden sets; it sets torch's threads, which are set back."""
    threads = torch.get_num_threads()
    import golden_models

    torch.set_num_threads(threads)
    return golden_models


def _golden_model() -> tuple[ModelSpec, dict[str, np.ndarray]]:
    return golden().narrow_spec("2stems"), golden().tensors("2stems")


def random_tensors(spec: ModelSpec) -> dict[str, np.ndarray]:
    """Return fixed random weights by name, the same on every machine; no layer changes the level much."""
    drawn = np.random.default_rng(SEED)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in nn.ModuleDict({s: UNet(spec) for s in spec.stems}).state_dict().items()}
    tensors = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            tensors[name] = (drawn.standard_normal(shape, np.float32) * _gain(name, tuple(shape))).astype(np.float32)
        elif not name.endswith("num_batches_tracked"):
            is_one = name.endswith(("running_var", "norm.weight"))
            tensors[name] = np.full(tuple(shape), float(is_one), np.float32)
    return tensors


def _gain(name: str, shape: tuple[int, ...]) -> float:
    if ".decoder." in f".{name}":  # transposed, stride 2: a quarter of the taps meet each output
        return RELU_GAIN / math.sqrt(shape[0] * shape[2] * shape[3] / 4)
    gain = HEAD_GAIN if "head" in name else LEAKY_GAIN
    return gain / math.sqrt(shape[1] * shape[2] * shape[3])


def save_model(spec: ModelSpec, tensors: dict[str, np.ndarray], folder: Path) -> None:
    """Write the folder of a converted model."""
    import safetensors.numpy

    folder.mkdir(parents=True, exist_ok=True)
    (folder / weights.SHA_FILE).write_text(f"{weights.sha256_of(tensors)}\n")
    (folder / weights.MODEL_FILE).write_bytes(safetensors.numpy.save(tensors, metadata={"spec": spec.to_json()}))


def mixed(seed: int, seconds: float) -> np.ndarray:
    """Return the mix of a synthesised song, which repeats after `PATTERN_S`."""
    mix = np.sum(list(song(seed, min(seconds, PATTERN_S)).values()), axis=0, dtype=np.float32)
    return np.ascontiguousarray(np.resize(mix.T, (round(seconds * 44_100), 2)).T)


def square(wave: np.ndarray) -> np.ndarray:
    """Return a full-scale square wave of 220 Hz, of the same length."""
    time_s = np.arange(wave.shape[1]) / 44_100
    return np.repeat(np.sign(np.sin(2 * np.pi * 220 * time_s) + 1e-9)[None].astype(np.float32), 2, axis=0)


SIGNALS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # each made of music
    "music": lambda music: music,
    "clipped": lambda music: np.clip(8 * music, -1, 1),
    "square": square,
    "dc": lambda music: np.full_like(music, 0.5),
    "noise": lambda music: np.random.default_rng(SEED).normal(0, 0.2, music.shape).astype(np.float32),
    "x64": lambda music: LOUDER * music,
}


def write_songs(folder: Path, count: int, lengths_s: tuple[float, float], threads: int) -> None:
    """Write songs of different lengths, FLAC and MP3 in turn; above `DIFFERENT`, files of the same bytes have other names."""
    different = min(count, DIFFERENT)
    new = folder.with_name(f"{folder.name}.new")
    new.mkdir(parents=True, exist_ok=True)

    def write(number: int) -> Path:
        codec = (FLAC, MP3)[number % 2]
        seconds = lengths_s[0] + (lengths_s[1] - lengths_s[0]) * number / max(1, different - 1)
        path = new / f"{number:03d}.{codec.container}"
        path.write_bytes(encoded(mixed(number, seconds), codec))
        return path

    with ThreadPoolExecutor(threads) as pool:
        files = list(pool.map(write, range(different)))
    for number in range(different, count):
        first = files[number % different]
        (new / f"{number:03d}{first.suffix}").hardlink_to(first)
    new.rename(folder)
