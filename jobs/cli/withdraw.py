"""The command `withdraw`: takedown of tracks."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def withdraw(
    out: flags.Out,
    ids: Annotated[
        str, typer.Option(metavar="FILE", help="File or URI with one id a line; - is standard input. Lines after # are skipped.")
    ],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Reason, which the index keeps.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while a run works on OUT.")] = 0.0,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    as_json: flags.AsJson = False,
) -> None:
    """Remove the stems of tracks for good, and all that OUT knows about them but id, reason and time (takedown).

    No later run separates them again, unless run --restore names them. If it is interrupted, run it again.

    Example: sep-batch withdraw songs.stems --ids takedown.txt --why "claim 4711"
    """
    with one_line_errors():
        from sep_batch.jobs.progress.print_result import tell
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.jobs.setup.id_list import read_ids
        from sep_batch.jobs.withdraw.withdraw import lines, run_withdraw
        from sep_batch.pipeline import storage

        storage.use(access.storage_options(endpoint_url, storage_options))
        result = run_withdraw(out, read_ids(ids, "--ids"), why=why, wait_s=wait)
        tell(result, lines(result), as_json=as_json)
    raise typer.Exit(result.exit_code)
