"""The command `demo`: synthesise songs and separate them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for the songs and their stems.")] = Path("demo"),
) -> None:
    """Synthesise short songs, separate them, and show the index.

    Example: sep-batch demo
    """
    with one_line_errors():
        from sep_batch.jobs.demo.demo import run_demo

        exit_code = run_demo(folder)
    raise typer.Exit(exit_code)
