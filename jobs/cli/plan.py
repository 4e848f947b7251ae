"""The command `plan`: show the work of a run without doing it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand
from sep_batch.jobs.cli.dry_run import PLANNED, show_plan
from sep_batch.jobs.cli.run import run


@app.command(cls=ConfiguredCommand)
@flags.shared_with(run, PLANNED)
def plan(
    context: typer.Context,
    manifest: Annotated[
        list[str], typer.Argument(metavar="MANIFEST", help="Tracks to plan for, in any form that sep-batch run takes.")
    ],
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine for a minute, and forecast how long the run will take.")
    ] = False,
    as_json: flags.AsJson = False,
    **options: Any,
) -> None:
    """Show which tracks of MANIFEST a run would separate, why, and how much that is. Writes nothing.

    Example: sep-batch plan songs.parquet --gpus 8 --out s3://bucket/stems --calibrate
    """
    with one_line_errors():
        exit_code = show_plan(context, manifest, calibrate=calibrate, as_json=as_json, **options)
    raise typer.Exit(exit_code)
