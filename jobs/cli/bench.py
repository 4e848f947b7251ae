"""The command `bench`: the speed of each step on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


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
