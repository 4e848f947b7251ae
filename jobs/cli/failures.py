"""The command `failures`: what failed in an OUT."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


@app.command()
def failures(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where a run wrote to: a folder or prefix.")],
    error_class: Annotated[str | None, typer.Option("--class", help="Only this class, as decode_error.")] = None,
    to: Annotated[str | None, typer.Option(help="Write a manifest of these tracks, for run: .parquet, .csv or .jsonl.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Show what failed in OUT, by class and message, and what to do about it.

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
