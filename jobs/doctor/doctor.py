"""`doctor`: check if a run would work on this machine. A check that is not ok gives the next step.

from sep_batch.jobs.doctor import run_doctor
checks = list(run_doctor("s3://bucket/stems"))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial

import typer
from rich.console import Console
from rich.text import Text

from sep_batch.jobs.doctor import check_gpu, check_software, check_storage
from sep_batch.jobs.setup import address as clusters
from sep_batch.jobs.setup import check_machine
from sep_batch.jobs.setup.check import Check, note, wrong
from sep_batch.jobs.setup.storage_options import storage_options
from sep_batch.pipeline import errors, storage

NOT_TRIED = note("storage", "not tested", "sep-batch doctor URI tests the storage of sources or stems")
_BEFORE = (
    *(
        check_machine.python,
        check_machine.cpus,
        check_machine.memory,
        check_machine.shm,
        check_machine.sessions,
        check_machine.open_files,
    ),
    *(
        check_gpu.torch_build,
        check_gpu.gpus,
        check_software.decoder,
        check_software.codecs,
        check_software.cache,
        check_software.default_weights,
    ),
)
_COLOURS = {"ok": "green", "note": "yellow", "wrong": "bold red"}
_WIDTH = 12  # width of the column of names


def run_doctor(
    uri: str | None = None, *, endpoint_url: str | None = None, options_file: str | None = None, address: str | None = None
) -> Iterator[Check]:
    """Check this machine, and the storage of a URI.

    Args:
        uri: Folder or prefix that runs will read from or write to; None tests no storage.
        endpoint_url: URL of an S3-compatible server other than AWS.
        options_file: JSON file with fsspec options by URI prefix.
        address: Address of a Ray cluster to join. Default: RAY_ADDRESS.

    Yields:
        Each check when it is done.

    Raises:
        UsageError: The file of options or the address is invalid.
    """
    if address:
        clusters.check(address, "--address")
    options = storage_options(endpoint_url, options_file)
    storage.use(options)
    for each in _BEFORE:
        yield from _done(each)
    yield from _done(partial(check_storage.checks, uri, options)) if uri else [NOT_TRIED]
    yield from _done(partial(check_software.last_cluster, address))
    yield from _done(partial(check_software.ray_start, address))  # takes longest


def _done(each: Callable[[], Check | Iterator[Check]]) -> Iterator[Check]:
    try:
        result = each()
        yield from [result] if isinstance(result, Check) else result
    except Exception as error:  # noqa: BLE001 (any exception is a finding; the other checks go on)
        name = getattr(each, "func", each).__name__.replace("_", " ")
        yield wrong(name, f"{type(error).__name__}: {errors.first_line(error)}", "open an issue: this check has a defect")


def show(checks: Iterable[Check], *, as_json: bool) -> int:
    """Print checks as they come, and return the exit code: 0, or 8 if one is wrong."""
    done, console = [], Console(highlight=False)
    for check in checks:
        done.append(check)
        if not as_json:
            console.print(_line(check), soft_wrap=True)
    wrongs = sum(check.state == "wrong" for check in done)
    exit_code = errors.CHECK_FAILED if wrongs else 0
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(check) for check in done], "exit_code": exit_code}))
    else:
        typer.echo(f"{wrongs} of {len(done)} checks found something wrong" if wrongs else "nothing wrong was found")
    return exit_code


def _line(check: Check) -> Text:
    text = " ".join(f"{check.found} → {check.advice}".split()) if check.advice else check.found
    return Text.assemble((f"{check.state:7}", _COLOURS[check.state]), f"{check.name:{_WIDTH}}{text}")
