"""The command `status`: how far the runs of an OUT have come."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


@app.command()
def status(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where a run writes to, or wrote to: a folder or prefix.")],
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Tell from any machine whether a run is at work on OUT, what is done, failed and left, how fast it is and when it ends.

    Example: sep-batch status s3://bucket/stems
    """
    with one_line_errors():
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.jobs.status.report import show
        from sep_batch.jobs.status.status import run_status
        from sep_batch.pipeline import storage

        storage.use(access.storage_options(endpoint_url, storage_options))
        show(run_status(out), as_json=as_json)
