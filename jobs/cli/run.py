"""The command `run`: separate tracks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sep_batch.jobs.cli import dry_run as planning
from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand
from sep_batch.jobs.cli.flags import FAILURES, OUTPUT, REPORTING, RESOURCES, STORAGE, TRACKS

if TYPE_CHECKING:
    from sep_batch.jobs.progress.log import Handler
    from sep_batch.jobs.progress.summary import Summary

REPORTED_BY = ("as_json", "log_format", "metrics_port", "metrics_file")  # parameters of run and sync that `separate` takes


@app.command(cls=ConfiguredCommand)
def run(
    context: typer.Context,
    manifest: Annotated[
        list[str],
        typer.Argument(
            metavar="MANIFEST",
            help="Tracks to separate: a table with a uri column (Parquet, CSV, JSON), a folder of such tables, or a list "
            "(.txt, M3U); or any number of audio files and folders of audio.",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder or prefix for stems and index. Default for one MANIFEST: beside it, songs.parquet -> songs.stems.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-p",
            help="Preset (sep-batch models list shows them), or folder or URI of a converted model.",
            rich_help_panel=TRACKS,
        ),
    ] = "spleeter:2stems",
    gpus: Annotated[
        str, typer.Option(help="Number of GPUs, or auto for all; 0 runs the U-Nets on the CPU.", rich_help_panel=RESOURCES)
    ] = "auto",
    cpus: flags.Cpus = None,
    engine: flags.Engine = "auto",
    format: Annotated[
        str,
        typer.Option(
            "--format", "-c", help="File format of the stems: flac, wav, mp3, m4a, opus, ogg or wma.", rich_help_panel=OUTPUT
        ),
    ] = "flac",
    bit_depth: Annotated[
        str,
        typer.Option(help="Bits per sample: 16 or 24 for FLAC; 16, 24 or float for WAV.", rich_help_panel=OUTPUT),
    ] = "16",
    precision: Annotated[
        str,
        typer.Option(
            help="Compute precision of the U-Nets: float32 or bfloat16, on a GPU also tf32 or float16. "
            "On a CPU without AVX-512, bfloat16 takes about 8 times as long as float32.",
            rich_help_panel=RESOURCES,
        ),
    ] = "float32",
    stft: Annotated[
        str,
        typer.Option(
            help="Stage that computes the STFT: cpu is the decoding stage (Analyze), gpu is the U-Nets' stage (Separate), which "
            "may run on a CPU too; auto is gpu where the U-Nets run on a GPU.",
            rich_help_panel=RESOURCES,
        ),
    ] = "auto",
    no_analysis: Annotated[
        bool,
        typer.Option(
            "--no-analysis", help="Leave level, activity and width of the stems out of the index.", rich_help_panel=OUTPUT
        ),
    ] = False,
    bitrate: Annotated[
        str | None,
        typer.Option(
            "--bitrate",
            "-b",
            help="Bit rate of mp3, m4a, opus, ogg or wma, as 128k or 320000 (bits per second). Default: 128k.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            metavar="HZ", help="Sample rate of the stems. Default: the model's; 48000 for opus.", rich_help_panel=OUTPUT
        ),
    ] = None,
    mono: Annotated[
        bool, typer.Option("--mono", help="Write stems with one channel, the mean of both.", rich_help_panel=OUTPUT)
    ] = False,
    downmix: Annotated[
        str,
        typer.Option(
            help="Downmix of sources with more than two channels: itu (BS.775: centre and surrounds at -3 dB, LFE left out), or "
            "first-two (Spleeter's: all channels but the first two are left out).",
            rich_help_panel=TRACKS,
        ),
    ] = "itu",
    filename: Annotated[
        str | None,
        typer.Option(
            "--filename",
            "-f",
            help="Template of the stems' paths below OUT/stems, or in OUT itself if it begins with ./. Tokens: {id} {stem} {ext} "
            "{filename} {foldername} {reldir} {model} {instrument} {codec} {shard}. Default: OUT's own; for a new OUT "
            "./{stem}.{ext} for one song, ./{filename}/{stem}.{ext} with --out, ./{reldir}/{filename}/{stem}.{ext} for a folder, "
            "{shard}/{id}/{stem}.{ext} for a manifest.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    stems: Annotated[
        str | None, typer.Option(help="Stems to write, as vocals,drums. Default: all of the model's.", rich_help_panel=OUTPUT)
    ] = None,
    mask_extension: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Mask of the frequencies above the model's range: zeros (stems are silent there), or average (the mean of the "
            "mask below). Default: the model's own, for the published models zeros.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    mwf: Annotated[
        bool,
        typer.Option(
            "--mwf",
            help="Separate with Spleeter's multichannel Wiener filter in place of its ratio masks: up to 0.6 dB better on two "
            "excerpts, for 1.3 times the CPU time. Tracks of more than 4 minutes are filtered on CPUs.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    residual: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Write a further stem of this name: the mix minus the stems, with all frequencies. In 16 and 24 bits all add "
            "up to the mix bit for bit. For flac and wav. Default: none.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    write_mix: Annotated[
        bool,
        typer.Option(
            "--write-mix",
            help="Write the mix beside its stems, under the name mix: decoded, as long as they are, in their format.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    copy_tags: Annotated[
        bool,
        typer.Option(
            "--copy-tags",
            help="Write the source's tags and cover into its stems, where their format has them.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    tag_provenance: Annotated[
        bool,
        typer.Option(
            "--tag-provenance",
            help="Write the track's id, the model's name, the sha256 of its weights and the stem's name into the stems, as tags "
            "that begin with SEP_BATCH_.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Separate the first N rows of the manifest only, done or not. Default: all.", rich_help_panel=TRACKS
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Separate a sample of N tracks, by a hash of their ids: the same ones each time, and among those of a larger N. "
            "To try a large catalog. Default: all.",
            rich_help_panel=TRACKS,
        ),
    ] = None,
    offset: Annotated[
        float, typer.Option("--offset", "-s", min=0, help="Seconds to skip at the start of each track.", rich_help_panel=TRACKS)
    ] = 0.0,
    duration: Annotated[
        float | None,
        typer.Option("--duration", "-d", help="Seconds to separate of each track. Default: to its end.", rich_help_panel=TRACKS),
    ] = None,
    max_failures: Annotated[
        str,
        typer.Option(
            help="Largest number of failed tracks, or percentage of the tracks tried. From 200 tracks on "
            "a run stops above it; a run of 20 or more that ends above it has exit code 4.",
            rich_help_panel=FAILURES,
        ),
    ] = "5%",
    ok_with_failures: Annotated[
        bool,
        typer.Option("--ok-with-failures", help="Exit with 0 although some tracks failed.", rich_help_panel=FAILURES),
    ] = False,
    retry: Annotated[
        str,
        typer.Option(
            help="Failed tracks to retry: none; transient (errors that may pass, such as storage timeouts); all; or suspect "
            "(transient, and finished tracks that an older version may have decoded wrongly).",
            rich_help_panel=FAILURES,
        ),
    ] = "transient",
    restore: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File or URI with one id a line: tracks that were withdrawn, and are to be separated again. Default: none.",
            rich_help_panel=TRACKS,
        ),
    ] = None,
    damaged: Annotated[
        str,
        typer.Option(
            help="Damaged files of which at least half could be decoded: keep separates and flags them, fail counts them as "
            "failed. Tracks that are done stay as they are.",
            rich_help_panel=FAILURES,
        ),
    ] = "keep",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Separate again the tracks whose stems in OUT were made with other settings, and replace these.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    scratch: Annotated[
        str | None,
        typer.Option(
            help="Folder for temporary files of long tracks if OUT is object storage. Default: the system's.",
            rich_help_panel=STORAGE,
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(
            help="Time to stop, after which tracks in flight may finish: a duration, as 6h, or a time of day, as 06:00. A run "
            "that starts up to 6 h after that time of day stops at once.",
            rich_help_panel=FAILURES,
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds to wait for another run on OUT to end; then the exit code is 75.", rich_help_panel=FAILURES
        ),
    ] = 0.0,
    time_limit: Annotated[
        float,
        typer.Option(
            help="Time limit for one part of a track (about 4 minutes of audio) in one stage, in seconds.",
            rich_help_panel=FAILURES,
        ),
    ] = 600.0,
    input_root: Annotated[
        str | None,
        typer.Option(
            help="Folder below which local sources must lie. Without it, a manifest on remote storage may name no local file.",
            rich_help_panel=STORAGE,
        ),
    ] = None,
    allow_http: Annotated[
        bool, typer.Option("--allow-http", help="Accept sources at http:// and https:// URLs.", rich_help_panel=STORAGE)
    ] = False,
    endpoint_url: flags.EndpointUrl = None,
    storage_options: flags.StorageOptions = None,
    address: flags.Address = None,
    min_gpus: Annotated[
        int | None,
        typer.Option(
            min=1, help="Start once the cluster has this many of --gpus. Default: all of them.", rich_help_panel=RESOURCES
        ),
    ] = None,
    shared_filesystem: Annotated[
        bool,
        typer.Option(
            "--shared-filesystem",
            help="Accept local paths on a cluster of several nodes; every node must see them.",
            rich_help_panel=RESOURCES,
        ),
    ] = False,
    bad_rows: Annotated[
        str,
        typer.Option(
            help="Manifest rows without a URI, or with an invalid id or number: refuse rejects the whole manifest, fail marks "
            "these rows as failed (class bad_row) and separates the others.",
            rich_help_panel=FAILURES,
        ),
    ] = "refuse",
    uri_column: Annotated[str | None, typer.Option(help="Name of the manifest's URI column.", rich_help_panel=TRACKS)] = None,
    id_column: Annotated[str | None, typer.Option(help="Name of the manifest's id column.", rich_help_panel=TRACKS)] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Take only files of a folder that match, whatever their extension; repeatable. Patterns as in "
            ".gitignore: '*.flac' "
            "and 'live' match the name of a file or folder, 'live/*.wav' and '/live' a path below the source, ** crosses "
            "folders; case matters.",
            rich_help_panel=TRACKS,
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Leave out files of a folder that match, even if --include matches them; repeatable.",
            rich_help_panel=TRACKS,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show what would be done, as sep-batch plan does; write nothing.", rich_help_panel=REPORTING
        ),
    ] = False,
    metrics_port: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Serve Prometheus metrics on this port; the default host is 127.0.0.1. Default: no metrics.",
            rich_help_panel=REPORTING,
        ),
    ] = None,
    metrics_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.prom",
            help="Write Prometheus metrics to this file every 10 s and at the end of the run, for node_exporter's textfile "
            "collector. Default: no file.",
            rich_help_panel=REPORTING,
        ),
    ] = None,
    log_format: Annotated[
        str, typer.Option(help="Format of the log on stderr: text or json.", rich_help_panel=REPORTING)
    ] = "text",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print events as lines of JSON, the summary last.", rich_help_panel=REPORTING),
    ] = False,
) -> None:
    """Separate every track of MANIFEST that is not done yet. Run the same command again to resume.

    Example: sep-batch run songs.parquet --gpus 8 --out s3://bucket/stems
    """
    with one_line_errors() as log:
        from sep_batch.jobs.run.run import run_job
        from sep_batch.jobs.setup.options import as_options

        parameters = dict(context.params)
        if dry_run:
            planned = {name: parameters[name] for name in planning.PLANNED}
            raise typer.Exit(planning.show_plan(context, manifest, as_json=as_json, **planned))
        for name in ("manifest", "out", "dry_run"):
            del parameters[name]
        reporting = {name: parameters.pop(name) for name in REPORTED_BY}
        options = as_options(**parameters) | {"more": manifest[1:]}
        exit_code = separate(run_job, log, manifest[0], out, options, **reporting)
    raise typer.Exit(exit_code)


def separate(
    job: Callable[..., Summary],
    log: Handler,
    source: str,
    out: str | None,
    options: dict[str, Any],
    *,
    as_json: bool,
    log_format: str,
    metrics_port: str | None,
    metrics_file: str | None,
) -> int:
    """Run a job, with its progress and summary on the terminal; return the exit code."""
    from rich.console import Console

    from sep_batch.jobs.progress.progress import Progress
    from sep_batch.jobs.run.report import reach, show

    log.speak(log_format)
    progress = Progress.on(
        Console(stderr=True), as_json=as_json, log_format=log_format, metrics_port=metrics_port, metrics_file=metrics_file
    )
    log.standing = progress.standing
    summary = job(source, out, progress=progress, **options)
    show(summary, as_json=as_json, reach=reach(options["endpoint_url"], options["storage_options"]))
    return summary.exit_code
