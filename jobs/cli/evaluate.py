"""The command `evaluate`: scores of stems against true stems."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand
from sep_batch.jobs.cli.flags import OUTPUT, TRACKS
from sep_batch.jobs.cli.run import run

READING = (
    *("uri_column", "id_column", "input_root", "allow_http", "bad_rows", "limit", "cpus", "ok_with_failures", "log_format"),
)
ACCESS = ("endpoint_url", "storage_options")
SEPARATION = (  # parameters of run that only a separation takes
    *("model", "gpus", "engine", "format", "bit_depth", "bitrate", "precision", "stft", "mask_extension", "mwf"),
    *("max_failures", "retry", "overwrite", "scratch", "deadline", "wait", "time_limit", "address", "min_gpus"),
    "shared_filesystem",
)


@app.command(cls=ConfiguredCommand)
@flags.shared_with(run, (*SEPARATION, *READING, *ACCESS))
def evaluate(
    context: typer.Context,
    references: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCES",
            help="Songs with true stems: a manifest (uri is the mix, ref_vocals, ref_drums, ... the true stems), or a folder in "
            "MUSDB's layout (<song>/mixture.wav beside vocals.wav, drums.wav, bass.wav and other.wav; or <song>.stem.mp4).",
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder or prefix for stems and scores. Default: beside REFERENCES, songs.parquet -> songs.stems.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    estimates: Annotated[
        str | None,
        typer.Option(
            metavar="OUT",
            help="Score the stems in this OUT of an earlier run; separate nothing. Tracks are matched by id, else by URI.",
            rich_help_panel=TRACKS,
        ),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="sdr is SDR and SI-SDR of whole tracks; bsseval is these and BSSEval v4 (SDR, ISR, SIR and SAR, medians over "
            "windows of 1 s), by museval."
        ),
    ] = "sdr",
    min_sdr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STEM=DB", help="Lowest median SDR of a stem, as vocals=5; one below it makes the exit code 8. Repeatable."
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Rows of an earlier evaluation, as Parquet; shows the difference in SDR by stem."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Parquet file, a path or URI, for a row per track and stem. Default: evaluation.parquet in OUT.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    png: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="PNG, a path or URI, of the distribution of SDR over tracks; needs matplotlib. Default: none.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: flags.AsJson = False,
    **options: Any,
) -> None:
    """Separate songs with true stems, and score the stems: SDR and SI-SDR in dB. Run the same command again to resume.

    Exit code 8 if a median is below --min-sdr, 3 if a track could not be separated or scored; else those of run.

    Example: sep-batch evaluate songs.parquet --model spleeter:4stems --min-sdr vocals=5
    """
    with one_line_errors() as log:
        from rich.console import Console

        from sep_batch.jobs.evaluate.evaluate import run_evaluate
        from sep_batch.jobs.evaluate.report import Evaluation, show
        from sep_batch.jobs.progress.file_counter import FileCounter
        from sep_batch.jobs.progress.progress import Progress
        from sep_batch.jobs.run import report as run_report

        log.speak(log_format := options.pop("log_format"))
        if estimates is not None:
            _refuse_separation_flags(context)
        console = Console(stderr=True)
        progress = Progress.on(console, as_json=False, log_format=log_format, metrics_port=None, metrics_file=None)
        log.standing = progress.standing
        result = run_evaluate(
            references,
            out,
            estimates=estimates,
            metrics=metrics,  # type: ignore[arg-type]  # checked there
            output=output,
            png=png,
            baseline=baseline,
            min_sdr=tuple(min_sdr or ()),
            progress=progress,
            counter=FileCounter(console),
            **_as_options(options),
        )
        if isinstance(result, Evaluation):
            show(result, as_json=as_json)
        elif as_json:
            typer.echo(result.to_json())
        else:
            run_report.show(result, as_json=False)
    raise typer.Exit(result.exit_code)


def _as_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the flags as fields of `Options`."""
    from sep_batch.jobs.setup.options import as_options

    fields = as_options(**options, stems=None, include=None, exclude=None)
    return {name: value for name, value in fields.items() if name not in ("stems", "include", "exclude", "analysis")}


def _refuse_separation_flags(context: typer.Context) -> None:
    """Refuse flags of a separation beside --estimates, which would change nothing."""
    from sep_batch.pipeline.errors import UsageError

    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name in SEPARATION and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{parameter.opts[0]}: with --estimates nothing is separated; leave out one of them")
