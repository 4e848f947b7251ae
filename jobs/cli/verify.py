"""The command `verify`: compare an OUT with its journal."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def verify(
    out: flags.Out,
    deep: Annotated[bool, typer.Option("--deep", help="Read every stem, compare its checksum, and decode it.")] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Mark tracks whose stems are broken, so that the next run separates them again; rebuild the index.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --repair: remove files that no row names (orphans), if older than 24 h.")
    ] = False,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    as_json: flags.AsJson = False,
) -> None:
    """Compare index and stems of OUT with its journal. Exit code 8 if anything is wrong.

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
        report = run_verify(
            out, deep=deep, repair=repair, yes=yes, shown=shown, report_line=lambda line: typer.echo(line, err=True)
        )
        show(report, as_json=as_json)
    raise typer.Exit(report.exit_code)
