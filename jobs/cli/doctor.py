"""The command `doctor`: what this machine has and lacks."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


@app.command()
def doctor(
    uri: Annotated[str | None, typer.Argument(help="A folder or prefix that runs will read from or write to.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of the head of a Ray cluster to join, or auto, in place of a start. Default: $RAY_ADDRESS."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Check whether a run would work here: each thing it needs is ok, or what to do about it. Exit code 8 where one is wrong.

    Example: sep-batch doctor s3://bucket/stems
    """
    with one_line_errors():
        from sep_batch.jobs.doctor.doctor import run_doctor, show

        checks = run_doctor(uri, endpoint_url=endpoint_url, options_file=storage_options, address=address)
        exit_code = show(checks, as_json=as_json)
    raise typer.Exit(exit_code)
