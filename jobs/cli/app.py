"""The command line's app: errors become one line and an exit code here, and only here."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from sep_batch.jobs.progress.log import Handler


SPLEETER = {"--codec": "--format", "--filename_format": "--filename", "--output_path": "--out", "--params_filename": "--model"}


class Commands(TyperGroup):
    """The commands. A song, `separate` or a flag of Spleeter's is answered with what to type."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # types of click, which typer keeps to itself
        """Return the command that was typed.

        Raises:
            UsageError: There is no such command.
        """
        name, *others = args
        if name in self.commands or ctx.resilient_parsing:  # which tab completion asks for
            return super().resolve_command(ctx, args)
        from sep_batch.pipeline.manifest.audio_files import AUDIO_EXTENSIONS

        is_source = name.lower().endswith(tuple(AUDIO_EXTENSIONS)) or "/" in name or os.path.exists(name)
        if is_source or name == "separate":
            own = [SPLEETER.get(flag, flag) for flag in others]
            typed = shlex.join(["sep-batch", "run", *([name] if is_source else []), *own])
            ctx.fail(f"No such command {name!r}. To separate: {typed}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Parse the arguments of the command that was typed, and run it.

        Raises:
            Exit: A config file is invalid, which is found before the command runs.
        """
        try:
            return super().invoke(ctx)
        except Exception as error:
            from sep_batch.pipeline.errors import RunError

            if (flag := getattr(error, "option_name", "")) in SPLEETER:  # of click's NoSuchOption
                error.possibilities = [SPLEETER[flag]]  # type: ignore[attr-defined]
            if not isinstance(error, RunError):
                raise
            with one_line_errors():
                raise


app = typer.Typer(
    name="sep-batch",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

MESSAGE_CHARS = 4000  # a refused manifest names its first 20 rows


def _print_version(is_asked: bool) -> None:  # noqa: FBT001 (typer calls it)
    if is_asked:
        from sep_batch.pipeline import packages

        with one_line_errors():
            version = packages.version("sep-batch")
        typer.echo(f"sep-batch {version}")
        raise typer.Exit


@app.callback()
def about(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Separate music catalogs into stems with Spleeter's U-Nets on Ray Data."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[Handler]:
    """Turn errors of sep-batch into one line on stderr and an exit code."""
    from sep_batch.jobs.progress import log
    from sep_batch.pipeline.errors import STOPPED, BugError, RunError
    from sep_batch.pipeline.storage.uris import printable

    logger = logging.getLogger("sep_batch")
    with log.shown() as handler:
        try:
            yield handler
        except KeyboardInterrupt as error:
            logger.warning("stopped by a signal; run the same command again to resume")
            raise typer.Exit(STOPPED) from error
        except RunError as error:
            logger.error(str(error) if isinstance(error, BugError) else printable(str(error), MESSAGE_CHARS))  # noqa: TRY400 (one line)
            raise typer.Exit(error.exit_code) from error
        except Exception as error:
            if not handler.as_json:
                raise
            logger.exception("a defect of sep-batch")
            raise typer.Exit(1) from error
