"""The command `export`: make a dataset of stems."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def export(
    out: flags.Out,
    dest: Annotated[str, typer.Argument(metavar="DEST", help="Folder or prefix for the dataset alone, outside OUT.")],
    to: Annotated[str, typer.Option(help="Format of the dataset: webdataset, hf, lhotse, musdb or parquet.")],
    where: Annotated[
        str | None,
        typer.Option(help="SQL condition on columns of the index, as \"genre = 'rock'\". Default: all separated tracks."),
    ] = None,
    stems: Annotated[str | None, typer.Option(help="Stems to export, as vocals,drums. Default: all.")] = None,
    excerpt: Annotated[
        str | None, typer.Option(help="Length of the excerpts that tracks are cut into, as 10s. Default: whole tracks.")
    ] = None,
    hop: Annotated[
        str | None,
        typer.Option(
            help="Time from the start of one excerpt to the start of the next, as 5s. Default: the length of an excerpt."
        ),
    ] = None,
    min_active: Annotated[
        list[str] | None, typer.Option(help="Smallest share of an excerpt in which a stem is active, as vocals=0.5; repeatable.")
    ] = None,
    sample_rate: Annotated[
        int | None, typer.Option(metavar="HZ", help="Sample rate of the excerpts. Default: the stems' own.")
    ] = None,
    mono: Annotated[bool, typer.Option("--mono", help="Write one channel, the mean of both.")] = False,
    codec: Annotated[str | None, typer.Option(help="Audio format of the excerpts. Default: flac; for musdb, wav.")] = None,
    split: Annotated[
        str, typer.Option(help="Shares of train, validation and test, as 0.8/0.1/0.1, or of train and test, as 0.9/0.1.")
    ] = "1",
    group_by: Annotated[
        str | None, typer.Option(help="Column of the index, as artist; tracks with the same value go to the same split.")
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(help="Largest number of excerpts in a shard. Default: 500, or 20 whole tracks.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the splits, and of the order and choice of tracks.")] = 0,
    with_mix: Annotated[
        bool, typer.Option("--with-mix", help="Export the mix too, read from the sources; musdb always has it.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="Number of tracks to export, drawn at random. Default: all.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an export in DEST that was made with other settings.")
    ] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait while another export works on DEST.")] = 0.0,
    cpus: flags.Cpus = None,
    scratch: Annotated[
        str | None,
        typer.Option(help="Folder for temporary files of shards if DEST is object storage. Default: the system's."),
    ] = None,
    address: flags.Address = None,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    as_json: flags.AsJson = False,
) -> None:
    """Make a dataset of the stems in OUT: choose tracks, cut excerpts, make splits. Run the same command again to resume.

    Example: sep-batch export songs.stems vocals --to webdataset --excerpt 10s --min-active vocals=0.5
    """
    with one_line_errors():
        import logging

        from rich.console import Console

        from sep_batch.jobs.export.export import run_export
        from sep_batch.jobs.progress.file_counter import FileCounter

        exported = run_export(
            out,
            dest,
            tally=FileCounter(Console(stderr=True)),
            to=to,
            where=where,
            stems=tuple(name.strip() for name in stems.split(",") if name.strip()) if stems else None,
            excerpt=excerpt,
            hop=hop,
            min_active=tuple(min_active or ()),
            sample_rate=sample_rate,
            mono=mono,
            codec=codec,
            split=split,
            group_by=group_by,
            shard_size=shard_size,
            seed=seed,
            with_mix=with_mix,
            limit=limit,
            overwrite=overwrite,
            wait_s=wait,
            cpus=cpus,
            scratch=scratch,
            address=address,
            endpoint_url=endpoint_url,
            storage_options=storage_options,
        )
        for warning in exported.warnings:
            logging.getLogger("sep_batch").warning("warning: %s", warning)
        for line in [exported.to_json()] if as_json else exported.words():
            typer.echo(line)
    raise typer.Exit(exported.exit_code)
