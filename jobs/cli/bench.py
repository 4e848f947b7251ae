"""The command `bench`: measure the speed of each step on this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sep_batch.jobs.cli.app import app, one_line_errors
from sep_batch.jobs.cli.configured import ConfiguredCommand


@app.command(cls=ConfiguredCommand)
def bench(
    seconds: Annotated[float, typer.Option(help="Seconds of audio to synthesise and separate.")] = 240.0,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder or prefix to read from and write to, to measure that storage. Default: a temporary folder.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-p", help="Preset, or folder or URI of a converted model.")
    ] = "spleeter:2stems",
    gpus: Annotated[str, typer.Option(help="Number of GPUs, or auto for all; 0 runs the U-Nets on the CPU.")] = "auto",
    cpus: Annotated[int | None, typer.Option(min=1, help="Largest number of CPUs used. Default: all.")] = None,
    engine: Annotated[
        str, typer.Option(help="Engine of the whole run: local (this process), ray, or auto, by the amount of audio.")
    ] = "auto",
    format: Annotated[
        str, typer.Option("--format", "-c", help="File format of the stems: flac, wav, mp3, m4a, opus, ogg or wma.")
    ] = "flac",
    precision: Annotated[
        str, typer.Option(help="Compute precision of the U-Nets: float32, bfloat16, tf32 or float16.")
    ] = "float32",
    stft: Annotated[
        str,
        typer.Option(help="Stage that computes the STFT: cpu (decoding), gpu (U-Nets), or auto: gpu where these run on one."),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
) -> None:
    """Measure each step and a whole run on this machine, and name the bottleneck.

    Example: sep-batch bench --out s3://bucket/bench
    """
    with one_line_errors():
        from sep_batch.jobs.bench.bench import run_bench
        from sep_batch.jobs.bench.report import show

        options: dict[str, Any] = {
            "gpus": gpus,
            "cpus": cpus,
            "engine": engine,
            "format": format,
            "precision": precision,
            "stft": stft,
        }
        measured = run_bench(seconds, out, model=model, **options)
        show(measured, as_json=as_json)
