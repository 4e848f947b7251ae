"""The command `plan`: what a run would do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.dry_run import PLANNED, show_plan
from sep_batch.jobs.cli.run import run


@app.command()
@flags.shared_with(run, PLANNED)
def plan(
    context: typer.Context,
    manifest: Annotated[str, typer.Argument(help="As of run.")],
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine for a minute, and forecast what the run will take.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    **given: Any,
) -> None:
    """Say what run would do with MANIFEST and why, how much that is, and what it will take. OUT is only read.

    Example: sep-batch plan songs.parquet --gpus 8 --out s3://bucket/stems --calibrate
    """
    with one_line_errors():
        exit_code = show_plan(context, manifest, calibrate=calibrate, as_json=as_json, **given)
    raise typer.Exit(exit_code)
