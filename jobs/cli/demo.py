"""The command `demo`: songs are synthesised and separated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sep_batch.jobs.cli.app import app, one_line_errors


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where catalog and stems go.")] = Path("demo"),
) -> None:
    """Synthesise a small catalog, separate it, and show the index."""
    with one_line_errors():
        from sep_batch.jobs.demo.demo import run_demo

        exit_code = run_demo(folder)
    raise typer.Exit(exit_code)
