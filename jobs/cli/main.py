"""The command line. Each command is a few lines over a function, in the files imported here.

Nothing heavy is imported before a command needs it: `--help` loads neither torch nor ray.
"""

from __future__ import annotations

import os
import sys
import traceback

from sep_batch.jobs.cli.app import app
from sep_batch.jobs.cli.bench import bench
from sep_batch.jobs.cli.compare import compare
from sep_batch.jobs.cli.config import config
from sep_batch.jobs.cli.demo import demo
from sep_batch.jobs.cli.doctor import doctor
from sep_batch.jobs.cli.evaluate import evaluate
from sep_batch.jobs.cli.export import export
from sep_batch.jobs.cli.failures import failures
from sep_batch.jobs.cli.manifest import manifest
from sep_batch.jobs.cli.models import models
from sep_batch.jobs.cli.plan import plan
from sep_batch.jobs.cli.run import run
from sep_batch.jobs.cli.show import show
from sep_batch.jobs.cli.status import status
from sep_batch.jobs.cli.submit import submit
from sep_batch.jobs.cli.sync import sync
from sep_batch.jobs.cli.verify import verify
from sep_batch.jobs.cli.withdraw import withdraw
from sep_batch.jobs.setup import streams

__all__ = ["app", "main"]
COMMANDS = (  # as --help lists them
    *(run, plan, sync, submit, status, failures, show, verify, withdraw, compare, evaluate),
    *(export, manifest, doctor, demo, bench),
)
app.add_typer(models, name="models")
app.add_typer(config, name="config")
app.registered_commands.sort(key=lambda command: COMMANDS.index(command.callback))


def main() -> None:
    """Run the command line, and exit with its exit code.

    The interpreter is not torn down: all is durable by then, and about one teardown in fifteen aborted while threads of
    libraries were still running. A successful run would then exit with 134.
    """
    streams.protect()
    code = 0
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (printed as Python prints it)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
