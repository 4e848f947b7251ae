"""The command `verify`: an OUT is compared with its journal."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


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
