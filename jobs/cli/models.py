"""The commands about models: list, fetch, convert, show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sep_batch.jobs.cli.app import one_line_errors

models = typer.Typer(help="List, fetch, convert and show models.", no_args_is_help=True)


@models.command("list")
def models_list() -> None:
    """List the presets, and the state of their weights."""
    from sep_batch.jobs.models import listing

    for line in listing():
        typer.echo(line)


@models.command("fetch")
def models_fetch(
    name: Annotated[str, typer.Argument(help="Preset, as spleeter:2stems.")],
    from_file: Annotated[
        Path | None, typer.Option("--from", help="Copy of the published archive on this machine; nothing is downloaded.")
    ] = None,
) -> None:
    """Download the weights of a preset into the cache, verify and convert them."""
    with one_line_errors():
        from sep_batch.jobs.models import fetch

        typer.echo(fetch(name, from_file))


@models.command("convert")
def models_convert(
    checkpoint: Annotated[
        str, typer.Option(help="Prefix of a TensorFlow checkpoint: PREFIX of PREFIX.index and PREFIX.data-00000-of-00001.")
    ],
    config: Annotated[Path, typer.Option(help="Spleeter's JSON configuration of the model.")],
    out: Annotated[Path, typer.Option(help="Folder for the converted model, which --model takes.")],
) -> None:
    """Convert a TensorFlow checkpoint of Spleeter into a folder that --model takes."""
    with one_line_errors():
        from sep_batch.jobs.models import convert

        typer.echo(convert(checkpoint, config, out))


@models.command("show")
def models_show(model: Annotated[str, typer.Argument(help="Preset, or folder of a converted model.")]) -> None:
    """Show a model's description and the sha256 of its weights, as JSON."""
    with one_line_errors():
        from sep_batch.jobs.models import show as show_model

        typer.echo(show_model(model))
