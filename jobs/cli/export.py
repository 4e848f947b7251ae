"""The command that makes a dataset of stems: export."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


@app.command()
def export(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where a run wrote to: a folder or prefix.")],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="Where the dataset goes: a folder or prefix of its own.")],
    to: Annotated[str, typer.Option(help="Its form: webdataset, hf, lhotse, musdb or parquet.")],
    where: Annotated[str | None, typer.Option(help="Only tracks that satisfy this SQL condition on the index.")] = None,
    stems: Annotated[str | None, typer.Option(help="Only these, as vocals,drums. Default: all.")] = None,
    excerpt: Annotated[str | None, typer.Option(help="Cut tracks into excerpts of this length, as 10s. Default: whole.")] = None,
    hop: Annotated[str | None, typer.Option(help="From one excerpt's begin to the next one's. Default: its length.")] = None,
    min_active: Annotated[
        list[str] | None, typer.Option(help="Only excerpts that this stem is active in for this share, as vocals=0.5. Several.")
    ] = None,
    sample_rate: Annotated[int | None, typer.Option(help="In Hz. Default: the stems' own.")] = None,
    mono: Annotated[bool, typer.Option("--mono", help="One channel, the mean of the two.")] = False,
    codec: Annotated[str | None, typer.Option(help="What excerpts are written as. Default: flac; of musdb, wav.")] = None,
    split: Annotated[str, typer.Option(help="Shares of train, validation and test, or of train and test.")] = "1",
    group_by: Annotated[str | None, typer.Option(help="A column of which no value is in two splits, as artist.")] = None,
    shard_size: Annotated[int | None, typer.Option(help="Excerpts a shard, at most. Default: 500, or 20 whole tracks.")] = None,
    seed: Annotated[int, typer.Option(help="Of the splits and the order of tracks.")] = 0,
    with_mix: Annotated[bool, typer.Option("--with-mix", help="The mix too, read from the sources; always in musdb.")] = False,
    limit: Annotated[int | None, typer.Option(help="Only N tracks, drawn by the seed.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export in DEST that has other settings.")] = False,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait where another export works on DEST.")] = 0.0,
    cpus: Annotated[int | None, typer.Option(min=1, help="Bound on the CPUs used. Default: all.")] = None,
    scratch: Annotated[
        str | None, typer.Option(help="Folder for shards being written, where DEST is no disk. Default: the system's.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT of the head of a running Ray cluster to join, or auto. Default: $RAY_ADDRESS.")
    ] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Make a dataset of OUT's stems: choose tracks, cut excerpts, split them. The same command again resumes.

    Example: sep-batch export songs.stems vocals --to webdataset --excerpt 10s --min-active vocals=0.5
    """
    with one_line_errors():
        import logging

        from rich.console import Console

        from sep_batch.jobs.export.export import run_export
        from sep_batch.jobs.progress.file_counter import Tally

        exported = run_export(
            out,
            dest,
            tally=Tally(Console(stderr=True)),
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
