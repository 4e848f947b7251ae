"""The command `manifest`: audio files are listed."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


@app.command()
def manifest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC...",
            help="Folders, prefixes, globs, files; lists (.csv .jsonl .parquet .txt .m3u, also .gz), folders of lists; S3 "
            "Inventory's manifest.json.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Where to: .parquet, .csv or .jsonl.")] = "manifest.parquet",
    probe: Annotated[bool, typer.Option("--probe", help="Read the headers: duration, rate, channels, codec.")] = False,
    dedup: Annotated[
        str | None, typer.Option(help="One row a content: etag (S3, nothing is read), or sha256 (files of one size are read).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N files.")] = None,
    uri_column: Annotated[str | None, typer.Option(help="The lists' column of URIs.")] = None,
    id_column: Annotated[str | None, typer.Option(help="The lists' column of ids.")] = None,
    input_root: Annotated[
        str | None, typer.Option(help="What lists name on this machine has to lie below; without it a remote list may name none.")
    ] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Lists may name http and https.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Take only a source's files that match, whatever their extension; repeatable. As in .gitignore: '*.flac' or "
            "'live' is the name of a file or folder, 'live/*.wav' or '/live' a path below the source, ** crosses folders; "
            "case counts.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out a source's files that match, --include or not; repeatable."),
    ] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
) -> None:
    """Write a manifest (uri, id, size, etag) of the audio below SRC, and of what lists name.

    Example: sep-batch manifest s3://bucket/songs 'more/*.mp3' --probe --dedup sha256 -o songs.parquet
    """
    with one_line_errors():
        from rich.console import Console

        from sep_batch.jobs.manifest import Asked, run_manifest
        from sep_batch.jobs.progress.file_counter import Tally
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.pipeline import storage
        from sep_batch.pipeline.manifest.lists import Reading

        storage.use(access.storage_options(endpoint_url, storage_options))
        how = Reading(uri_column, id_column, input_root, allow_http, tuple(include or ()), tuple(exclude or ()))
        asked = Asked(probe=probe, dedup=dedup, limit=limit, how=how)
        made = run_manifest(sources, out, asked, Tally(Console(stderr=True)))
        for warning in made.warnings:
            typer.echo(f"warning: {warning}", err=True)
        for line in made.lines():
            typer.echo(line)
