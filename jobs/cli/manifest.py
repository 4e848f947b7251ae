"""The command `manifest`: list audio files."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def manifest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC...",
            help="Audio to list: folders, prefixes, globs, files; lists of audio (.csv .jsonl .parquet .txt "
            ".m3u, also .gz) and folders "
            "of lists; the manifest.json of an S3 Inventory.",
        ),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="File to write: .parquet, .csv or .jsonl.")] = "manifest.parquet",
    probe: Annotated[
        bool, typer.Option("--probe", help="Read each file's header: duration, sample rate, channels, codec.")
    ] = False,
    dedup: Annotated[
        str | None,
        typer.Option(
            help="Keep one of files with equal bytes: etag compares S3's etags and reads nothing, sha256 reads "
            "files of equal size."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="List the first N files only.")] = None,
    uri_column: Annotated[str | None, typer.Option(help="Name of the lists' URI column.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Name of the lists' id column.")] = None,
    input_root: Annotated[
        str | None,
        typer.Option(
            help="Folder below which local files of a list must lie. Without it, a list on remote storage may name no local file."
        ),
    ] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Accept http:// and https:// URLs in lists.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Take only files of a source that match, whatever their extension; repeatable. Patterns as in "
            ".gitignore: '*.flac' and "
            "'live' match the name of a file or folder, 'live/*.wav' and '/live' a path below the source, ** crosses folders; "
            "case matters.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Leave out files of a source that match, even if --include matches them; repeatable."
        ),
    ] = None,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
) -> None:
    """List the audio below SRC, and the audio that lists name, as a manifest for sep-batch run: uri, id, size, etag.

    Example: sep-batch manifest s3://bucket/songs 'more/*.mp3' --probe --dedup sha256 -o songs.parquet
    """
    with one_line_errors():
        from rich.console import Console

        from sep_batch.jobs.manifest import ManifestOptions, run_manifest
        from sep_batch.jobs.progress.file_counter import FileCounter
        from sep_batch.jobs.setup import storage_options as access
        from sep_batch.pipeline import storage
        from sep_batch.pipeline.manifest.lists import Reading

        storage.use(access.storage_options(endpoint_url, storage_options))
        reading = Reading(uri_column, id_column, input_root, allow_http, tuple(include or ()), tuple(exclude or ()))
        options = ManifestOptions(probe=probe, dedup=dedup, limit=limit, reading=reading)
        written = run_manifest(sources, out, options, FileCounter(Console(stderr=True)))
        for warning in written.warnings:
            typer.echo(f"warning: {warning}", err=True)
        for line in written.lines():
            typer.echo(line)
