"""The command `show`: a picture of a track."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def show(
    out: flags.Out,
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a track, as the index has it, or the beginning of one id.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="PNG, a path or URI. Default: ID.png in this folder.")
    ] = None,
    is_opened: Annotated[bool, typer.Option("--open", help="Open the picture in this machine's viewer.")] = False,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
) -> None:
    """Draw a track: spectrograms of its mix and stems, with their levels and active regions, as a PNG. Needs matplotlib.

    Example: sep-batch show songs.stems song --open
    """
    with one_line_errors():
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.jobs.show.show import run_show
        from sep_batch.pipeline import errors, storage
        from sep_batch.pipeline.storage import uris

        storage.use(access.storage_options(endpoint_url, storage_options))
        shown = run_show(out, id)
        try:
            file = uris.target(output or f"{shown.id}.png")
            storage.put(file, shown.png)
        except errors.TrackError as error:
            raise errors.NotRunnableError(f"--output {error}") from error
        if shown.warning:
            logging.getLogger("sep_batch").warning("warning: %s", shown.warning)
        typer.echo(file)
        if is_opened:
            typer.launch(file)
