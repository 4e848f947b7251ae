"""The command line. Each command is a few lines over a function, in the files imported here.

Nothing heavy is imported before a command needs it: `--help` loads neither torch nor ray.
"""

from __future__ import annotations

import os
import sys
import traceback

from sep_batch.jobs.cli import export, manifest, models, run, submit, verify
from sep_batch.jobs.cli.app import app
from sep_batch.jobs.setup import streams

__all__ = ["app", "main"]
COMMANDS = (  # as --help lists them
    *(run.run, run.plan, run.sync, submit.submit, verify.status, verify.failures, verify.verify),
    export.export,
    *(manifest.manifest, manifest.doctor, manifest.demo, manifest.bench),
)
app.add_typer(models.models, name="models")
app.registered_commands.sort(key=lambda command: COMMANDS.index(command.callback))


def main() -> None:
    """Run the command line, and leave with its exit code.

    The interpreter is not torn down: all is durable by then, and its teardown was seen to abort, once in some fifteen runs, with
    threads of the libraries still there. That would make exit code 134 of a run that went well.
    """
    streams.protect()
    code = 0
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 (told as Python tells it)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
