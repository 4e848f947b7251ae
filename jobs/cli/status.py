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
    history: Annotated[
        bool, typer.Option("--history", help="Show past runs, the newest first: tracks, duration, speed, exit code, forecast.")
    ] = False,
    runs: Annotated[
        int | None, typer.Option("--limit", min=1, help="With --history: number of runs to show. Default: 20; with --json all.")
    ] = None,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    as_json: flags.AsJson = False,
) -> None:
    """Show the state of OUT, from any machine: active run, tracks done, failed and left, speed, and estimated end; or past runs.

    Example: sep-batch status s3://bucket/stems
    """
    with one_line_errors():
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.jobs.status import history_report, report
        from sep_batch.jobs.status.history import SHOWN, run_history
        from sep_batch.jobs.status.status import run_status
        from sep_batch.pipeline import errors, storage

        if runs is not None and not history:
            raise errors.UsageError(f"--limit {runs}: only with --history; add --history, or leave out --limit")
        storage.use(access.storage_options(endpoint_url, storage_options))
        if history:
            shown = runs or (None if as_json else SHOWN)
            history_report.show(run_history(out, limit=shown), as_json=as_json)
        else:
            report.show(run_status(out), as_json=as_json)
