"""Weights: the cache, the conversion of checkpoints to a folder that loads, and its loading.

A converted model is a folder with `model.safetensors` (the spec is its only metadata) and `weights.sha256`. Published models
are converted once, into the cache: `$SEP_BATCH_CACHE`, else the user's cache folder. Nothing is unpickled or extracted.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
import safetensors
import safetensors.numpy

from sep_batch.model import checkpoint, published
from sep_batch.model.published import WeightsError
from sep_batch.model.spec import PRESETS, ModelSpec, SpecError

MODEL_FILE, SHA_FILE = "model.safetensors", "weights.sha256"
_NOWHERE = Path(os.devnull) / "sep-batch"


class Loaded(NamedTuple):
    """A converted model: its spec, its weights by name, and their sha256."""

    spec: ModelSpec
    tensors: dict[str, np.ndarray]
    sha256: str


class UnknownModelError(WeightsError):
    """A name that is neither a preset nor the folder of a converted model."""


def base_name(model: str) -> str:
    """Return the preset whose weights a preset uses: `spleeter:2stems-16kHz` uses those of `spleeter:2stems`."""
    return model.removesuffix("-16kHz")


def cache_folder() -> Path:
    """Return the cache folder; for a user without a home directory, a path at which no file can exist."""
    if root := os.environ.get("SEP_BATCH_CACHE"):
        return Path(root)
    try:
        folder = Path(platformdirs.user_cache_dir("sep-batch"))
    except RuntimeError:  # neither HOME nor the system's list of users names a home
        return _NOWHERE
    return folder if folder.is_absolute() else _NOWHERE


def writable_cache() -> Path:
    """Return the cache folder after a test that it is writable; create it where it is missing.

    Raises:
        WeightsError: The folder is not writable, or there is none; the message ends with advice behind its last semicolon.
    """
    folder, advice = cache_folder(), "set SEP_BATCH_CACHE to a writable folder"
    if folder == _NOWHERE:
        raise WeightsError(f"no cache folder: HOME is not set, and this user has no home directory; {advice}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise WeightsError(f"cache folder {folder}: not writable ({error.strerror}); {advice}") from error
    return folder


def is_cached(model: str) -> bool:
    """Tell whether a preset's converted weights are in the cache; an unreadable folder counts as empty."""
    return os.path.exists(cached(model) / MODEL_FILE)


def cached(model: str) -> Path:
    """Return the folder for a preset's converted weights, which may not exist."""
    return cache_folder() / "models" / base_name(model).replace(":", "-")


def obtain(model: str, *, say: Callable[[str], None] = print) -> Path:
    """Return the folder of a converted model, fetching a published one on first use.

    Args:
        model: A preset's name, or a folder with a converted model.
        say: Called with a line for each source that is tried.

    Raises:
        UnknownModelError: `model` is neither.
        WeightsError: The model could not be fetched.
    """
    if model in PRESETS:
        return cached(model) if is_cached(model) else fetch(model, say=say)
    if (Path(model) / MODEL_FILE).is_file():
        return Path(model)
    names = ", ".join(PRESETS)
    raise UnknownModelError(f"model {model}: neither a folder with a {MODEL_FILE} nor one of {names}")


def fetch(model: str, *, from_file: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Fetch a published model's archive, verify and convert it into the cache.

    Args:
        model: A preset's name.
        from_file: A local copy of the archive, for machines without network.
        say: Called with a line for each source that is tried.

    Returns:
        The folder of the converted model.

    Raises:
        UnknownModelError: There is no such preset.
        WeightsError: No source could be downloaded, the archive is not the published one, or the cache is not writable.
    """
    if model not in PRESETS:
        raise UnknownModelError(f"model {model}: unknown, expected one of {', '.join(PRESETS)}")
    spec = PRESETS[base_name(model)]
    writable_cache()
    for source in published.SOURCES[spec.name]:
        try:
            archive = from_file.read_bytes() if from_file else published.download(source, say)
        except (OSError, http.client.HTTPException, subprocess.SubprocessError, WeightsError) as error:
            if from_file:
                raise WeightsError(f"{from_file}: {error.strerror if isinstance(error, OSError) else error}") from error
            say(f"{spec.name}: could not download {source.where} (sha256 {source.sha256}): {error}")
            continue
        digest = hashlib.sha256(archive).hexdigest()
        if digest == source.sha256:
            try:
                return convert(*published.checkpoint_files(archive, source.prefix), spec, cached(model))[0]
            except OSError as error:
                raise WeightsError(f"{cached(model)}: could not be written ({error.strerror})") from error
        if not from_file:
            raise WeightsError(f"{source.where}: sha256 {digest}, expected {source.sha256}: not the published archive")
    if from_file:
        expected = " or ".join(f"{source.sha256} ({source.where})" for source in published.SOURCES[spec.name])
        raise WeightsError(f"{from_file}: sha256 {hashlib.sha256(from_file.read_bytes()).hexdigest()}, expected {expected}")
    raise WeightsError(
        f"{spec.name}: no source could be downloaded; copy an archive here and run: sep-batch models fetch {model} --from FILE"
    )


def convert(index: bytes, data: bytes, spec: ModelSpec, folder: Path) -> tuple[Path, int]:
    """Convert a TensorFlow checkpoint's two files into a folder that `load` reads.

    Returns:
        The folder, and the number of training leftovers that were ignored.

    Raises:
        WeightsError: The checkpoint is damaged or does not fit the spec.
    """
    try:
        mapped = checkpoint.map_names(checkpoint.read(index, data), spec)
    except checkpoint.CheckpointError as error:
        raise WeightsError(str(error)) from error
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / SHA_FILE, f"{sha256_of(mapped.tensors)}\n".encode())
    _replace(folder / MODEL_FILE, safetensors.numpy.save(mapped.tensors, metadata={"spec": spec.to_json()}))
    return folder, mapped.ignored


def load(folder: Path, *, preset: str | None = None) -> Loaded:
    """Load a converted model and check it against its sha256.

    Args:
        folder: Folder of the model, as `obtain` or `convert` returns it.
        preset: Preset whose spec replaces the stored one (the 16kHz ones share their weights with others).

    Raises:
        WeightsError: The file is damaged, or its tensors differ from the converted ones.
    """
    path = folder / MODEL_FILE
    try:
        with safetensors.safe_open(path, framework="np") as file:
            spec = ModelSpec.from_json((file.metadata() or {})["spec"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, KeyError, SpecError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: not a converted model ({error}); remove the folder and fetch or convert again") from error
    expected, digest = expected_sha256(folder), sha256_of(tensors)
    if expected and digest != expected:
        raise WeightsError(f"{path}: sha256 of the weights {digest}, expected {expected}; remove the folder and fetch it again")
    return Loaded(PRESETS.get(preset or "", spec), tensors, digest)


def expected_sha256(folder: Path) -> str | None:
    """Return the recorded sha256 of a converted model; None where there is none."""
    path = folder / SHA_FILE
    return path.read_text().strip() if path.exists() else None


def sha256_of(tensors: Mapping[str, np.ndarray]) -> str:
    """Hash weights: name, type, shape and bytes of each tensor in name order; the same on every machine."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        digest.update(array.data)
    return digest.hexdigest()


def _replace(path: Path, content: bytes) -> None:
    """Write a file of the cache atomically."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
