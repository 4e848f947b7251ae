"""The command `doctor`: check this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def doctor(
    uri: Annotated[str | None, typer.Argument(help="Folder or prefix that runs will read from or write to.")] = None,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    address: flags.Address = None,
    as_json: flags.AsJson = False,
) -> None:
    """Check this machine for runs, and name the next step for each fault. Exit code 8 if a run would not work.

    Example: sep-batch doctor s3://bucket/stems
    """
    with one_line_errors():
        from sep_batch.jobs.doctor.doctor import run_doctor, show

        checks = run_doctor(uri, endpoint_url=endpoint_url, options_file=storage_options, address=address)
        exit_code = show(checks, as_json=as_json)
    raise typer.Exit(exit_code)
