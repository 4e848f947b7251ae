"""The command `sync`: separate new and changed files of a folder or prefix."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand
from sep_batch.jobs.cli.run import REPORTED_BY, run, separate

NOT_SYNCED = ("context", "manifest", "out", "limit", "sample", "uri_column", "id_column", "dry_run")  # parameters of run only


@app.command(cls=ConfiguredCommand)
@flags.shared_with(run, [name for name in inspect.signature(run).parameters if name not in NOT_SYNCED])
def sync(
    source: Annotated[str, typer.Argument(help="Folder or prefix that holds audio.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder or prefix for stems and index.")],
    **options: Any,
) -> None:
    """Separate new and changed files below SOURCE; report files that are gone, and keep their stems. For a nightly job.

    Example: sep-batch sync s3://bucket/songs s3://bucket/stems --deadline 06:00
    """
    with one_line_errors() as log:
        from sep_batch.jobs.run.sync import run_sync
        from sep_batch.jobs.setup.options import as_options

        reporting = {name: options.pop(name) for name in REPORTED_BY}
        exit_code = separate(run_sync, log, source, out, as_options(**options), **reporting)
    raise typer.Exit(exit_code)
