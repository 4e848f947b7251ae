"""The commands before a run, and to try one: manifest, doctor, demo, bench."""

from __future__ import annotations

from pathlib import Path
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


@app.command()
def doctor(
    uri: Annotated[str | None, typer.Argument(help="A folder or prefix that runs will read from or write to.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of the head of a Ray cluster to join, or auto, in place of a start. Default: $RAY_ADDRESS."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Check whether a run would work here: each thing it needs is ok, or what to do about it. Exit code 8 where one is wrong.

    Example: sep-batch doctor s3://bucket/stems
    """
    with one_line_errors():
        from sep_batch.jobs.doctor.doctor import run_doctor, show

        checks = run_doctor(uri, endpoint_url=endpoint_url, options_file=storage_options, address=address)
        exit_code = show(checks, as_json=as_json)
    raise typer.Exit(exit_code)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where catalog and stems go.")] = Path("demo"),
) -> None:
    """Synthesise a small catalog, separate it, and show the index."""
    with one_line_errors():
        from sep_batch.jobs.demo.demo import run_demo

        exit_code = run_demo(folder)
    raise typer.Exit(exit_code)


@app.command()
def bench(
    seconds: Annotated[float, typer.Option(help="Of audio that is synthesised and separated.")] = 240.0,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Folder or prefix to read from and write to. Default: a temporary folder.")
    ] = None,
    model: Annotated[str, typer.Option("--model", "-p", help="As of run.")] = "spleeter:2stems",
    gpus: Annotated[str, typer.Option(help="As of run.")] = "auto",
    cpus: Annotated[int | None, typer.Option(min=1, help="As of run.")] = None,
    format: Annotated[str, typer.Option("--format", "-c", help="As of run.")] = "flac",
    precision: Annotated[str, typer.Option(help="As of run.")] = "float32",
    stft: Annotated[str, typer.Option(help="As of run.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Measure each step and a whole run on this machine, and name what holds it up."""
    with one_line_errors():
        from sep_batch.jobs.bench.bench import run_bench, show

        measured = run_bench(seconds, out, model=model, gpus=gpus, cpus=cpus, format=format, precision=precision, stft=stft)
        show(measured, as_json=as_json)
