"""The command `status`: show the state of an OUT's runs."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def status(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder or prefix that a run writes or wrote to.")],
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    as_json: flags.AsJson = False,
) -> None:
    """Show the state of OUT, from any machine: active run, tracks done, failed and left, speed, and estimated end.

    Example: sep-batch status s3://bucket/stems
    """
    with one_line_errors():
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.jobs.status.report import show
        from sep_batch.jobs.status.status import run_status
        from sep_batch.pipeline import storage

        storage.use(access.storage_options(endpoint_url, storage_options))
        show(run_status(out), as_json=as_json)
