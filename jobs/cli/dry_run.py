"""A plan on the terminal: the command `plan`, and `run --dry-run`."""

from __future__ import annotations

from typing import Any

import typer

from sep_batch.jobs.cli import flags

PLANNED = (  # flags of run that change a plan
    *("out", "model", "gpus", "cpus", "engine", "format", "bit_depth", "precision", "stft", "bitrate", "sample_rate", "mono"),
    *("downmix", "filename", "stems", "residual", "write_mix", "mask_extension", "mwf", "copy_tags", "tag_provenance"),
    *("limit", "sample", "offset", "duration", "retry", "restore"),
    *("overwrite", "input_root", "allow_http", "endpoint_url", "storage_options", "address", "bad_rows"),
    *("uri_column", "id_column", "include", "exclude", "no_analysis"),
)


def show_plan(context: typer.Context, manifest: list[str], *, calibrate: bool = False, as_json: bool, **options: Any) -> int:
    """Print what a run would do with a manifest; return the exit code."""
    from sep_batch.jobs.plan.plan import run_plan
    from sep_batch.jobs.plan.report import show
    from sep_batch.jobs.setup.options import as_options

    planned = run_plan(manifest[0], calibrate=calibrate, more=manifest[1:], **as_options(**options))
    show(planned, flags.retyped(context, "run", without=("calibrate", "dry_run", "as_json")), as_json=as_json)
    return planned.exit_code
