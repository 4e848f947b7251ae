"""The command `compare`: the difference between two OUTs."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def compare(
    out_a: Annotated[str, typer.Argument(metavar="OUT_A", help="Folder or prefix that a run wrote to; the reference.")],
    out_b: Annotated[str, typer.Argument(metavar="OUT_B", help="Folder or prefix that another run wrote to.")],
    min_snr: Annotated[
        float | None,
        typer.Option(metavar="DB", help="Lowest SNR of a stem in dB; one below it makes the exit code 8. Default: any SNR."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Parquet file, a path or URI, for a row per track and stem. Default: none."),
    ] = None,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    as_json: flags.AsJson = False,
) -> None:
    """Compare the stems of tracks that are ok in two OUTs: SNR (energy of A over energy of A - B) and level of B minus A, in dB.

    Exit code 8 for findings: tracks that are ok in only one OUT, stems of another sample rate, length or number of channels,
    stems that cannot be read or decoded, stems below --min-snr, or nothing to compare.

    Example: sep-batch compare songs.float32 songs.bfloat16 --min-snr 40
    """
    with one_line_errors():
        from rich.console import Console

        from sep_batch.jobs.compare.compare import run_compare
        from sep_batch.jobs.compare.report import show
        from sep_batch.jobs.progress.file_counter import FileCounter
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.pipeline import storage
        from sep_batch.pipeline.manifest import SHOWN

        storage.use(access.storage_options(endpoint_url, storage_options))
        result = run_compare(
            out_a,
            out_b,
            min_snr_db=min_snr,
            output=output,
            shown=None if as_json else SHOWN,
            counter=FileCounter(Console(stderr=True)),
        )
        show(result, as_json=as_json)
    raise typer.Exit(result.exit_code)
