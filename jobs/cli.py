"""The command line. Each command is a few lines over a function; errors become one line and an exit code here, and only here.

Nothing heavy is imported before a command needs it: `--help` loads neither torch nor ray.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sep_batch.jobs import flags

if TYPE_CHECKING:
    from sep_batch.jobs.logs import Handler
    from sep_batch.jobs.summary import Summary

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
    from sep_batch.jobs import quiet

    quiet.move_stderr()
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
def _one_line_errors() -> Iterator[Handler]:
    """Turn what our own code raises into one line on stderr and its exit code."""
    from sep_batch.jobs import logs
    from sep_batch.pipeline.failures import STOPPED, BugError, RunError
    from sep_batch.pipeline.uris import printable

    logger = logging.getLogger("sep_batch")
    with logs.shown() as handler:
        try:
            yield handler
        except KeyboardInterrupt as error:
            logger.warning("stopped by a signal; run the same command again to resume")
            raise typer.Exit(STOPPED) from error
        except RunError as error:
            logger.error(str(error) if isinstance(error, BugError) else printable(str(error), MESSAGE_CHARS))  # noqa: TRY400 (one line)
            raise typer.Exit(error.exit_code) from error
        except Exception as error:
            if not handler.as_json:
                raise
            logger.exception("a defect of sep-batch")
            raise typer.Exit(1) from error


@app.command()
def run(
    context: typer.Context,
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
    stft: Annotated[
        str,
        typer.Option(help="Who does the STFT: cpu, the stage that decodes; gpu, the one that has the U-Nets, wherever they run."),
    ] = "cpu",
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, as plan does.")] = False,
    metrics_port: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Serve metrics for Prometheus there, by default on 127.0.0.1 only.")
    ] = None,
    log_format: Annotated[str, typer.Option(help="Of the log on stderr: text or json.")] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Print events as lines of JSON, the last one the summary.")] = False,
) -> None:
    """Separate every track of MANIFEST that is not done yet. The same command again resumes.

    Example: sep-batch run songs.parquet --gpus 8 --out s3://bucket/stems
    """
    with _one_line_errors() as log:
        from sep_batch.jobs.run import run_job

        if dry_run:
            given = {name: context.params[name] for name in PLANNED}
            raise typer.Exit(_plan(context, manifest, as_json=as_json, **given))
        asked = flags.as_options(
            model=model,
            gpus=gpus,
            cpus=cpus,
            format=format,
            bit_depth=bit_depth,
            precision=precision,
            stft=stft,
            bitrate=bitrate,
            filename=filename,
            stems=stems,
            limit=limit,
            offset=offset,
            duration=duration,
            max_failures=max_failures,
            ok_with_failures=ok_with_failures,
            retry=retry,
            overwrite=overwrite,
            scratch=scratch,
            deadline=deadline,
            wait=wait,
            time_limit=time_limit,
            input_root=input_root,
            allow_http=allow_http,
            endpoint_url=endpoint_url,
            storage_options=storage_options,
            address=address,
            uri_column=uri_column,
            id_column=id_column,
        )
        telling: dict[str, Any] = {"as_json": as_json, "log_format": log_format, "metrics_port": metrics_port}
        exit_code = _separate(run_job, log, manifest, out, asked, **telling)
    raise typer.Exit(exit_code)


def _separate(
    job: Callable[..., Summary],
    log: Handler,
    source: str,
    out: str | None,
    asked: dict[str, Any],
    *,
    as_json: bool,
    log_format: str,
    metrics_port: str | None,
) -> int:
    from rich.console import Console

    from sep_batch.jobs.progress import Progress
    from sep_batch.jobs.report import reach, show

    log.speak(log_format)
    progress = Progress.on(Console(stderr=True), as_json=as_json, log_format=log_format, metrics_port=metrics_port)
    log.standing = progress.standing
    summary = job(source, out, progress=progress, **asked)
    show(summary, as_json=as_json, reach=reach(asked["endpoint_url"], asked["storage_options"]))
    return summary.exit_code


PLANNED = (  # those of run's flags that change what would be done
    *("out", "model", "gpus", "cpus", "format", "bit_depth", "precision", "stft", "bitrate", "filename", "stems", "limit"),
    *("offset", "duration", "retry", "overwrite", "input_root", "allow_http", "endpoint_url", "storage_options", "address"),
    *("uri_column", "id_column"),
)
NOT_SYNCED = ("context", "manifest", "out", "limit", "uri_column", "id_column", "dry_run")  # of run's, those of a manifest


@app.command()
@flags.shared_with(run, PLANNED)
def plan(
    context: typer.Context,
    manifest: Annotated[str, typer.Argument(help="As of run.")],
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine for a minute, and forecast what the run will take.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
    **given: Any,
) -> None:
    """Say what run would do with MANIFEST and why, how much that is, and what it will take. OUT is only read.

    Example: sep-batch plan songs.parquet --gpus 8 --out s3://bucket/stems --calibrate
    """
    with _one_line_errors():
        exit_code = _plan(context, manifest, calibrate=calibrate, as_json=as_json, **given)
    raise typer.Exit(exit_code)


def _plan(context: typer.Context, manifest: str, *, calibrate: bool = False, as_json: bool, **given: Any) -> int:
    from sep_batch.jobs.plan import run_plan
    from sep_batch.jobs.plan_report import show

    planned = run_plan(manifest, calibrate=calibrate, **flags.as_options(**given))
    show(planned, flags.retyped(context, "run", without=("calibrate", "dry_run", "as_json")), as_json=as_json)
    return planned.exit_code


@app.command()
@flags.shared_with(run, [name for name in inspect.signature(run).parameters if name not in NOT_SYNCED])
def sync(
    source: Annotated[str, typer.Argument(help="A folder or prefix that holds audio.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where to.")],
    **given: Any,
) -> None:
    """Bring OUT up to SOURCE: what is new or has changed is separated, what is gone is told and kept. The nightly job.

    Example: sep-batch sync s3://bucket/songs s3://bucket/stems --deadline 06:00
    """
    with _one_line_errors() as log:
        from sep_batch.jobs.sync import run_sync

        telling = {name: given.pop(name) for name in ("as_json", "log_format", "metrics_port")}
        exit_code = _separate(run_sync, log, source, out, flags.as_options(**given), **telling)
    raise typer.Exit(exit_code)


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
def status(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where a run writes to, or wrote to: a folder or prefix.")],
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Tell from any machine whether a run is at work on OUT, what is done, failed and left, how fast it is and when it ends.

    Example: sep-batch status s3://bucket/stems
    """
    with _one_line_errors():
        from sep_batch.jobs import access
        from sep_batch.jobs.status import run_status
        from sep_batch.jobs.status_report import show
        from sep_batch.pipeline import storage

        storage.use(access.storage_options(endpoint_url, storage_options))
        show(run_status(out), as_json=as_json)


@app.command()
def failures(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where a run wrote to: a folder or prefix.")],
    error_class: Annotated[str | None, typer.Option("--class", help="Only this class, as decode_error.")] = None,
    to: Annotated[str | None, typer.Option(help="Write a manifest of these tracks, for run: .parquet, .csv or .jsonl.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Show what failed in OUT, by class and message, and what to do about it.

    Example: sep-batch failures songs.stems --to failures.parquet
    """
    with _one_line_errors():
        from sep_batch.jobs import access
        from sep_batch.jobs.failed import run_failures
        from sep_batch.jobs.failed_report import show
        from sep_batch.pipeline import storage

        storage.use(access.storage_options(endpoint_url, storage_options))
        show(run_failures(out, error_class=error_class, to=to), as_json=as_json)


@app.command()
def doctor(
    uri: Annotated[str | None, typer.Argument(help="A folder or prefix that runs will read from or write to.")] = None,
    endpoint_url: Annotated[str | None, typer.Option(help="As of run.")] = None,
    storage_options: Annotated[str | None, typer.Option(help="As of run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Check whether a run would work here: each thing it needs is ok, or what to do about it. Exit code 8 where one is wrong.

    Example: sep-batch doctor s3://bucket/stems
    """
    with _one_line_errors():
        from sep_batch.jobs.doctor import run_doctor, show

        exit_code = show(run_doctor(uri, endpoint_url=endpoint_url, options_file=storage_options), as_json=as_json)
    raise typer.Exit(exit_code)


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
    precision: Annotated[str, typer.Option(help="As of run.")] = "float32",
    stft: Annotated[str, typer.Option(help="As of run.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Measure each step and a whole run on this machine, and name what holds it up."""
    with _one_line_errors():
        from sep_batch.jobs.bench import run_bench, show

        measured = run_bench(seconds, out, model=model, gpus=gpus, cpus=cpus, format=format, precision=precision, stft=stft)
        show(measured, as_json=as_json)


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
