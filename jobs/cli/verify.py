"""The commands about what a run leaves: status, failures, verify."""

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


@app.command()
def verify(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where a run wrote to: a folder or prefix.")],
    deep: Annotated[bool, typer.Option("--deep", help="Read every stem: its bytes, and that it decodes.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mark tracks of broken stems for the next run; publish the index anew.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --repair: remove orphans older than 24 h.")] = False,
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as one line of JSON.")] = False,
) -> None:
    """Check OUT: index and stems against its journal. Exit code 8 where something is wrong.

    Example: sep-batch verify songs.stems --deep
    """
    with one_line_errors():
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.jobs.verify.report import show
        from sep_batch.jobs.verify.verify import run_verify
        from sep_batch.pipeline import storage
        from sep_batch.pipeline.manifest import SHOWN

        storage.use(access.storage_options(endpoint_url, storage_options))
        shown = None if as_json else SHOWN
        report = run_verify(out, deep=deep, repair=repair, yes=yes, shown=shown, told=lambda line: typer.echo(line, err=True))
        show(report, as_json=as_json)
    raise typer.Exit(report.exit_code)
