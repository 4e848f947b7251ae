"""The command `config show`: the flags in force, and the source of each value."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from sep_batch.jobs.cli import flags
from sep_batch.jobs.cli.app import one_line_errors
from sep_batch.jobs.cli.config_file import PROFILE, Defaults, parameters_of
from sep_batch.jobs.cli.configured import ConfiguredCommand

config = typer.Typer(help="Show what a config file sets.", no_args_is_help=True)

NO_FILE = "none; give --config FILE, or set SEP_BATCH_CONFIG"
SOURCES = {"COMMANDLINE": "command line", "ENVIRONMENT": "environment variable", "DEFAULT": "default"}
ADDRESSES = {"submit": ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}  # variables that --address is read from; others: RAY_ADDRESS


@dataclass(frozen=True)
class Flag:
    """A flag or argument of a command, and the source of its value.

    Attributes:
        command: Name of the command.
        flag: The flag as it is typed, or the name of an argument.
        value: Value that is in force; None without one. URIs show no secrets.
        source: "command line", "profile", "file", "environment variable" or "default".
        origin: Table of the config file, or name of the variable; None of other sources.
    """

    command: str
    flag: str
    value: Any
    source: str
    origin: str | None


@config.command("show", cls=ConfiguredCommand, context_settings={"ignore_unknown_options": True})
def config_show(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="COMMAND",
            help="Command to show all flags of; it may be followed by its own. Default: the flags that are set, of all commands.",
        ),
    ] = None,
    as_json: flags.AsJson = False,
) -> None:
    """Show the flags in force, first those that are set, and where each value comes from. Reads only the config file.

    Example: sep-batch config show run --config run.toml --profile night
    """
    with one_line_errors():
        rows = list(_flags_of(context, command) if command else _set_flags(context))
        defaults = context.default_map if isinstance(context.default_map, Defaults) else None
        if as_json:
            import json

            file, profile = (None, None) if defaults is None else (defaults.config, defaults.profile)
            typer.echo(json.dumps({"config": file, "profile": profile, "flags": [asdict(row) for row in rows]}))
        else:
            _print(rows, defaults, has_commands=not command)


def _set_flags(context: typer.Context) -> Iterator[Flag]:
    """Yield the flags of all commands that are not at their defaults."""
    root: Any = context.find_root().command
    for name, command in root.commands.items():
        if isinstance(command, ConfiguredCommand):
            yield from (flag for flag in _flags_of(context, [name]) if flag.source != "default")


def _flags_of(context: typer.Context, words: Sequence[str]) -> list[Flag]:
    """Return the flags of a command, those at their defaults last.

    Args:
        context: Context of `config show`.
        words: The command, and what is typed after it.

    Raises:
        UsageError: The command takes no config file.
        click.UsageError: The command line does not parse.
    """
    from sep_batch.pipeline.errors import UsageError

    root = context.find_root()
    name, command, rest = root.command.resolve_command(root, list(words))  # type: ignore[attr-defined]  # it is a group
    if not isinstance(command, ConfiguredCommand):
        raise UsageError(f"{name}: takes no config file")
    lenient: Any = copy.copy(command)
    lenient.params = [copy.copy(parameter) for parameter in command.params]
    for parameter in lenient.params:
        parameter.required = False
    parsed = lenient.make_context(name, rest, parent=root)
    rows = [_flag(parsed, parameter) for parameter in parameters_of(lenient).values()]
    return sorted(rows, key=lambda row: row.source == "default")


def _flag(parsed: Any, parameter: Any) -> Flag:
    from sep_batch.pipeline.storage.uris import shown

    value, source = parsed.params[parameter.name], parsed.get_parameter_source(parameter.name).name
    source, origin = SOURCES.get(source, "file"), None
    if source == "file":
        origin = parsed.default_map.tables[parameter.name]
        source = PROFILE if origin.startswith(f"{PROFILE}.") else source
    elif parameter.name == "address" and value is None:
        names = ADDRESSES.get(parsed.info_name, ("RAY_ADDRESS",))
        if origin := next((name for name in names if os.environ.get(name)), None):
            value, source = os.environ[origin], SOURCES["ENVIRONMENT"]
    if isinstance(value, list | tuple):
        value = [shown(str(item)) for item in value] or None
    elif isinstance(value, str):
        value = shown(value)
    is_option = parameter.param_type_name == "option"
    name = next(flag for flag in parameter.opts if flag.startswith("--")) if is_option else parameter.name
    return Flag(parsed.info_name, name, value, source, origin)


def _print(rows: Sequence[Flag], defaults: Defaults | None, *, has_commands: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    file = f"{defaults.config}{f', profile {defaults.profile}' if defaults.profile else ''}" if defaults is not None else NO_FILE
    console.print(f"config file: {file}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (*(("command",) if has_commands else ()), "flag"):
        table.add_column(column, no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("source", overflow="fold")
    for row in rows:
        value = "-" if row.value is None else ", ".join(row.value) if isinstance(row.value, list) else str(row.value)
        value = value.lower() if isinstance(row.value, bool) else value
        origin = f" {row.origin}" if row.source == SOURCES["ENVIRONMENT"] else f" [{row.origin}]" if row.origin else ""
        table.add_row(*((row.command,) if has_commands else ()), row.flag, value, f"{row.source}{origin}")
    if rows:
        console.print(table)
