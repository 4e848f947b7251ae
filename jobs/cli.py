"""The command line. Each command is a few lines over a function; errors become one line and an exit code here, and only here.

Nothing heavy is imported before a command needs it: `--help` loads neither torch nor ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="sep-batch",
    help="Separate music catalogs into stems with Spleeter's U-Nets on Ray Data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="List, fetch, convert and show models.", no_args_is_help=True)
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line, and leave with its exit code.

    The interpreter is not torn down: all is durable by then, and its teardown was seen to abort, once in some fifteen runs, with
    threads of the libraries still there. That would make exit code 134 of a run that went well.
    """
    code = 0
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (told as Python tells it)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


MESSAGE_CHARS = 4000  # a refused manifest names its first 20 rows


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what our own code raises into one line on stderr and its exit code."""
    from sep_batch.pipeline.failures import STOPPED, BugError, RunError
    from sep_batch.pipeline.uris import printable

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        yield
    except KeyboardInterrupt as error:
        typer.echo("stopped by a signal; run the same command again to resume", err=True)
        raise typer.Exit(STOPPED) from error
    except RunError as error:
        words = str(error) if isinstance(error, BugError) else printable(str(error), MESSAGE_CHARS)
        typer.echo(f"error: {words}", err=True)
        raise typer.Exit(error.exit_code) from error


def _bitrate(text: str | None) -> int | None:
    """Read 128k, 320000."""
    from sep_batch.pipeline.failures import UsageError

    if text is None:
        return None
    number, factor = (text[:-1], 1000) if text.lower().endswith("k") else (text, 1)
    if not number.isdigit():
        raise UsageError(f"--bitrate {text}: expected bits per second, as 128k or 320000")
    return int(number) * factor


@app.command()
def run(
    manifest: Annotated[str, typer.Argument(help="Parquet, CSV or JSONL with a uri column; or a folder; or one audio file.")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Where to. Default: beside MANIFEST, songs.parquet -> songs.stems.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-p", help="A preset (see models list), or a folder or URI of a converted model.")
    ] = "spleeter:2stems",
    gpus: Annotated[str, typer.Option(help="How many GPUs; auto: all there are; 0: U-Nets on the CPU.")] = "auto",
    cpus: Annotated[int | None, typer.Option(min=1, help="Bound on the CPUs used. Default: all.")] = None,
    format: Annotated[str, typer.Option("--format", "-c", help="What stems are written as: flac, wav or mp3.")] = "flac",
    bit_depth: Annotated[str, typer.Option(help="Of flac (16, 24) and wav (16, 24, float).")] = "16",
    precision: Annotated[
        str, typer.Option(help="What the U-Nets count in: float32, bfloat16; on a GPU also tf32, float16.")
    ] = "float32",
    bitrate: Annotated[str | None, typer.Option("--bitrate", "-b", help="Of mp3, as 128k. Default: 128k.")] = None,
    filename: Annotated[
        str,
        typer.Option(
            "--filename",
            "-f",
            help="Stems' paths below OUT/stems: {id} {stem} {ext} {filename} {foldername} {instrument} {codec} {shard}.",
        ),
    ] = "{shard}/{id}/{stem}.{ext}",
    stems: Annotated[str | None, typer.Option(help="Only these, as vocals,drums. Default: all.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N tracks.")] = None,
    offset: Annotated[float, typer.Option("--offset", "-s", min=0, help="Seconds to skip at the start of each track.")] = 0.0,
    duration: Annotated[float | None, typer.Option("--duration", "-d", help="Seconds to separate of each track.")] = None,
    max_failures: Annotated[str, typer.Option(help="Stop above so many failed tracks: 100, or 5% of those tried.")] = "5%",
    ok_with_failures: Annotated[bool, typer.Option("--ok-with-failures", help="Exit 0 though some tracks failed.")] = False,
    retry: Annotated[str, typer.Option(help="Which failed tracks are tried again: none, transient or all.")] = "transient",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Separate again what OUT holds of other settings.")] = False,
    scratch: Annotated[
        str | None,
        typer.Option(help="Folder for long tracks' temporary files, where OUT is no disk. Default: the system's."),
    ] = None,
    deadline: Annotated[str | None, typer.Option(help="When to end, in order: a duration, as 6h, or a time, as 06:00.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait where another run works on OUT.")] = 0.0,
    time_limit: Annotated[float, typer.Option(help="Seconds that a stage may be at work on four minutes of a track.")] = 600.0,
    input_root: Annotated[
        str | None, typer.Option(help="Local sources have to lie below this folder; without it a remote manifest may name none.")
    ] = None,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Read http and https sources too.")] = False,
    endpoint_url: Annotated[str | None, typer.Option(help="Of the S3 server, where it is not AWS.")] = None,
    storage_options: Annotated[
        str | None, typer.Option(help="JSON file of fsspec's options by URI prefix: other accounts, profiles, endpoints.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Of a running Ray cluster to join.")] = None,
    uri_column: Annotated[str | None, typer.Option(help="The manifest's column of URIs.")] = None,
    id_column: Annotated[str | None, typer.Option(help="The manifest's column of ids.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one line of JSON.")] = False,
) -> None:
    """Separate every track of MANIFEST that is not done yet. The same command again resumes.

    Example: sep-batch run songs.parquet --gpus 8 --out s3://bucket/stems
    """
    with _one_line_errors():
        from rich.console import Console

        from sep_batch.jobs.progress import Progress
        from sep_batch.jobs.report import show
        from sep_batch.jobs.run import run_job

        summary = run_job(
            manifest,
            out,
            progress=Progress(Console(stderr=True)),
            model=model,
            gpus=gpus,
            cpus=cpus,
            format=format,
            bit_depth=bit_depth,
            precision=precision,
            bitrate=_bitrate(bitrate),
            filename=filename,
            stems=tuple(name.strip() for name in stems.split(",") if name.strip()) if stems else None,
            limit=limit,
            offset_s=offset,
            duration_s=duration,
            max_failures=max_failures,
            ok_with_failures=ok_with_failures,
            retry=retry,
            overwrite=overwrite,
            scratch=scratch,
            deadline=deadline,
            wait_s=wait,
            time_limit_s=time_limit,
            input_root=input_root,
            allow_http=allow_http,
            endpoint_url=endpoint_url,
            storage_options=storage_options,
            address=address,
            uri_column=uri_column,
            id_column=id_column,
        )
        show(summary, as_json=as_json)
    raise typer.Exit(summary.exit_code)


@app.command()
def manifest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC...",
            help="Folders, prefixes, globs, files; lists (.txt .csv .jsonl .parquet); S3 Inventory's manifest.json.",
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
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
) -> None:
    """Write a manifest (uri, id, size, etag) of the audio below SRC, and of what lists name.

    Example: sep-batch manifest s3://bucket/songs 'more/*.mp3' --probe --dedup sha256 -o songs.parquet
    """
    with _one_line_errors():
        from rich.console import Console

        from sep_batch.jobs import access
        from sep_batch.jobs.listing import Asked, run_manifest
        from sep_batch.jobs.tally import Tally
        from sep_batch.pipeline import storage
        from sep_batch.pipeline.lists import Reading

        storage.use(access.storage_options(endpoint_url, storage_options))
        how = Reading(uri_column=uri_column, id_column=id_column, input_root=input_root, allow_http=allow_http)
        asked = Asked(probe=probe, dedup=dedup, limit=limit, how=how)
        made = run_manifest(sources, out, asked, Tally(Console(stderr=True)))
        for warning in made.warnings:
            typer.echo(f"warning: {warning}", err=True)
        for line in made.lines():
            typer.echo(line)


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
    with _one_line_errors():
        from sep_batch.jobs import access
        from sep_batch.jobs.verify import run_verify
        from sep_batch.jobs.verify_report import show
        from sep_batch.pipeline import storage
        from sep_batch.pipeline.manifest import SHOWN

        storage.use(access.storage_options(endpoint_url, storage_options))
        shown = None if as_json else SHOWN
        report = run_verify(out, deep=deep, repair=repair, yes=yes, shown=shown, told=lambda line: typer.echo(line, err=True))
        show(report, as_json=as_json)
    raise typer.Exit(report.exit_code)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where catalog and stems go.")] = Path("demo"),
) -> None:
    """Synthesise a small catalog, separate it, and show the index."""
    with _one_line_errors():
        from sep_batch.jobs.demo import run_demo

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
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Measure each step and a whole run on this machine, and name what holds it up."""
    with _one_line_errors():
        from sep_batch.jobs.bench import run_bench, show

        show(run_bench(seconds, out, model=model, gpus=gpus, cpus=cpus, format=format), as_json=as_json)


@models.command("list")
def models_list() -> None:
    """List the presets, and whether their weights are here."""
    from sep_batch.jobs.models import listing

    for line in listing():
        typer.echo(line)


@models.command("fetch")
def models_fetch(
    name: Annotated[str, typer.Argument(help="A preset, as spleeter:2stems.")],
    from_file: Annotated[Path | None, typer.Option("--from", help="The published archive, already at hand.")] = None,
) -> None:
    """Fetch a preset's weights into the cache, verify and convert them."""
    with _one_line_errors():
        from sep_batch.jobs.models import fetch

        typer.echo(fetch(name, from_file))


@models.command("convert")
def models_convert(
    checkpoint: Annotated[str, typer.Option(help="PREFIX of PREFIX.index and PREFIX.data-00000-of-00001.")],
    config: Annotated[Path, typer.Option(help="Spleeter's JSON configuration of the model.")],
    out: Annotated[Path, typer.Option(help="Folder of the converted model, for --model.")],
) -> None:
    """Convert a TensorFlow checkpoint of Spleeter's into a folder that --model takes."""
    with _one_line_errors():
        from sep_batch.jobs.models import convert

        typer.echo(convert(checkpoint, config, out))


@models.command("show")
def models_show(model: Annotated[str, typer.Argument(help="A preset, or a folder of a converted model.")]) -> None:
    """Show a model's description and the sha256 of its weights, as JSON."""
    with _one_line_errors():
        from sep_batch.jobs.models import show as show_model

        typer.echo(show_model(model))
