"""The command `run`: tracks are separated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sep_batch.jobs.cli import dry_run as planning
from sep_batch.jobs.cli.app import app, one_line_errors

if TYPE_CHECKING:
    from sep_batch.jobs.progress.log import Handler
    from sep_batch.jobs.progress.summary import Summary


@app.command()
def run(
    context: typer.Context,
    manifest: Annotated[
        str,
        typer.Argument(
            help="Parquet, CSV or JSON with a uri column, or a folder of such files; a .txt or M3U list; a folder of audio; or "
            "one audio file."
        ),
    ],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="Where to. Default: beside MANIFEST, songs.parquet -> songs.stems.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-p", help="A preset (see models list), or a folder or URI of a converted model.")
    ] = "spleeter:2stems",
    gpus: Annotated[str, typer.Option(help="How many GPUs; auto: all there are; 0: U-Nets on the CPU.")] = "auto",
    cpus: Annotated[int | None, typer.Option(min=1, help="Bound on the CPUs used. Default: all.")] = None,
    format: Annotated[
        str, typer.Option("--format", "-c", help="What stems are written as: flac, wav, mp3, m4a, opus, ogg or wma.")
    ] = "flac",
    bit_depth: Annotated[str, typer.Option(help="Of flac (16, 24) and wav (16, 24, float).")] = "16",
    precision: Annotated[
        str,
        typer.Option(
            help="Compute precision of the U-Nets: float32 or bfloat16, on a GPU also tf32 or float16. "
            "On a CPU without AVX-512, bfloat16 takes about 8 times as long as float32."
        ),
    ] = "float32",
    stft: Annotated[
        str,
        typer.Option(help="Who does the STFT: cpu, the stage that decodes; gpu, the one that has the U-Nets, wherever they run."),
    ] = "cpu",
    no_analysis: Annotated[
        bool, typer.Option("--no-analysis", help="Leave levels, activity and width of stems out of the index.")
    ] = False,
    bitrate: Annotated[
        str | None, typer.Option("--bitrate", "-b", help="Of mp3, m4a, opus, ogg and wma, as 128k. Default: 128k.")
    ] = None,
    sample_rate: Annotated[
        int | None, typer.Option(metavar="HZ", help="That stems are written at. Default: the model's; 48000 for opus.")
    ] = None,
    mono: Annotated[bool, typer.Option("--mono", help="Write one channel, the mean of both.")] = False,
    downmix: Annotated[
        str,
        typer.Option(
            help="How sources of more than two channels become stereo: itu (BS.775: centre and surrounds at -3 dB, no LFE), or "
            "first-two (Spleeter's: the others are left out)."
        ),
    ] = "itu",
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
    retry: Annotated[
        str,
        typer.Option(
            help="Failed tracks that are tried again: none, transient or all; suspect: transient ones, and tracks that are done "
            "but were decoded by older rules that may have been wrong."
        ),
    ] = "transient",
    damaged: Annotated[
        str,
        typer.Option(
            help="Damaged files of which half or more came out: keep separates and flags them, fail does not. What is done stays."
        ),
    ] = "keep",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Separate again what OUT holds of other settings.")] = False,
    scratch: Annotated[
        str | None,
        typer.Option(help="Folder for long tracks' temporary files, where OUT is no disk. Default: the system's."),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            help="When to end, in order: a duration, as 6h, or the next 06:00; a run that begins up to 6 h after it ends at once."
        ),
    ] = None,
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
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT of the head of a running Ray cluster to join, or auto. Default: $RAY_ADDRESS.")
    ] = None,
    min_gpus: Annotated[int | None, typer.Option(min=1, help="Start once the cluster has so many of --gpus.")] = None,
    shared_filesystem: Annotated[
        bool, typer.Option("--shared-filesystem", help="Every node of the cluster sees the paths that are given.")
    ] = False,
    bad_rows: Annotated[
        str,
        typer.Option(
            help="Rows of the manifest without a URI, or with an id or number that is none: refuse the manifest (default), or "
            "fail these rows as bad_row and separate the others."
        ),
    ] = "refuse",
    uri_column: Annotated[str | None, typer.Option(help="The manifest's column of URIs.")] = None,
    id_column: Annotated[str | None, typer.Option(help="The manifest's column of ids.")] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Take only a folder's files that match, whatever their extension; repeatable. As in .gitignore: '*.flac' or "
            "'live' is the name of a file or folder, 'live/*.wav' or '/live' a path below the source, ** crosses folders; "
            "case counts.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Leave out a folder's files that match, --include or not; repeatable."),
    ] = None,
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
    with one_line_errors() as log:
        from sep_batch.jobs.run.run import run_job
        from sep_batch.jobs.setup.options import as_options

        if dry_run:
            given = {name: context.params[name] for name in planning.PLANNED}
            raise typer.Exit(planning.show_plan(context, manifest, as_json=as_json, **given))
        asked = as_options(
            model=model,
            gpus=gpus,
            cpus=cpus,
            format=format,
            bit_depth=bit_depth,
            precision=precision,
            stft=stft,
            no_analysis=no_analysis,
            bitrate=bitrate,
            sample_rate=sample_rate,
            mono=mono,
            downmix=downmix,
            filename=filename,
            stems=stems,
            limit=limit,
            offset=offset,
            duration=duration,
            max_failures=max_failures,
            ok_with_failures=ok_with_failures,
            retry=retry,
            damaged=damaged,
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
            min_gpus=min_gpus,
            shared_filesystem=shared_filesystem,
            bad_rows=bad_rows,
            uri_column=uri_column,
            id_column=id_column,
            include=include,
            exclude=exclude,
        )
        telling: dict[str, Any] = {"as_json": as_json, "log_format": log_format, "metrics_port": metrics_port}
        exit_code = separate(run_job, log, manifest, out, asked, **telling)
    raise typer.Exit(exit_code)


def separate(
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
    """Separate, with progress and summary on the terminal; return the exit code."""
    from rich.console import Console

    from sep_batch.jobs.progress.progress import Progress
    from sep_batch.jobs.run.report import reach, show

    log.speak(log_format)
    progress = Progress.on(Console(stderr=True), as_json=as_json, log_format=log_format, metrics_port=metrics_port)
    log.standing = progress.standing
    summary = job(source, out, progress=progress, **asked)
    show(summary, as_json=as_json, reach=reach(asked["endpoint_url"], asked["storage_options"]))
    return summary.exit_code
