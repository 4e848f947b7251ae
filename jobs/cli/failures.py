"""The command `failures`: show the failed tracks of an OUT."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def failures(
    out: flags.Out,
    error_class: Annotated[str | None, typer.Option("--class", help="Show only this class of errors, as decode_error.")] = None,
    to: Annotated[
        str | None, typer.Option(help="Write a manifest of these tracks for sep-batch run: .parquet, .csv or .jsonl.")
    ] = None,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    as_json: flags.AsJson = False,
) -> None:
    """Show the failed tracks of OUT by class and message, with the next step for each class.

    Example: sep-batch failures songs.stems --to failures.parquet
    """
    with one_line_errors():
        from sep_batch.jobs.failures.failures import run_failures
        from sep_batch.jobs.failures.report import show
        from sep_batch.jobs.run.report import reach
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.pipeline import storage

        storage.use(access.storage_options(endpoint_url, storage_options))
        report = run_failures(out, error_class=error_class, to=to, reach=reach(endpoint_url, storage_options))
        show(report, as_json=as_json)
