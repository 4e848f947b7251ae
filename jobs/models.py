"""`models`: list, fetch, convert and show models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from sep_batch.model import weights
from sep_batch.model.published import WeightsError
from sep_batch.model.spec import PRESETS, ModelSpec, SpecError
from sep_batch.pipeline import errors


@contextmanager
def _as_run_errors() -> Iterator[None]:
    """Turn the model package's errors about weights into errors with an exit code."""
    try:
        yield
    except weights.UnknownModelError as error:
        raise errors.UsageError(str(error)) from error
    except WeightsError as error:
        raise errors.NotRunnableError(str(error)) from error


def listing() -> Iterator[str]:
    """Yield one line per preset: its name, the state of its weights, its stems."""
    for name, spec in PRESETS.items():
        state = "fetched" if weights.is_cached(name) else "not fetched"
        yield f"{name:22} {state:12} {', '.join(spec.stems)}"


def fetch(name: str, from_file: Path | None) -> str:
    """Fetch a preset's weights; return a line with their folder and sha256."""
    with _as_run_errors():
        folder = weights.fetch(name, from_file=from_file, say=lambda line: typer.echo(line, err=True))
    return f"{name}: {folder} (weights_sha256 {weights.expected_sha256(folder)})"


def convert(checkpoint: str, config: Path, out: Path) -> str:
    """Convert a checkpoint; return a line with the model's folder, its stems and the sha256 of its weights."""
    try:
        spec = ModelSpec.from_spleeter(json.loads(config.read_text()), name=out.name)
        index, data = (Path(f"{checkpoint}.{end}").read_bytes() for end in ("index", "data-00000-of-00001"))
        with _as_run_errors():
            folder, ignored = weights.convert(index, data, spec, out)
    except json.JSONDecodeError as error:
        raise errors.UsageError(f"--config {config}: not JSON: {error}") from error
    except SpecError as error:
        raise errors.UsageError(f"--config {config}: {error}") from error
    except OSError as error:
        raise errors.NotRunnableError(f"{error.filename}: {error.strerror}") from error
    remark = f", {ignored} training-only tensors ignored" if ignored else ""
    return f"{folder}: {', '.join(spec.stems)}{remark} (weights_sha256 {weights.expected_sha256(folder)})"


def show(model: str) -> str:
    """Return a model's description and the sha256 of its weights, as JSON."""
    with _as_run_errors():
        loaded = weights.load(weights.obtain(model, say=lambda line: typer.echo(line, err=True)), preset=model)
    return json.dumps({"spec": json.loads(loaded.spec.to_json()), "weights_sha256": loaded.sha256}, indent=2)
