"""Flags that several commands have, the panels of `--help`, and the command that flags make up."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import typer

F = TypeVar("F", bound=Callable[..., Any])

WHAT, OUTPUT, RESOURCES = "What to separate", "Output", "Resources"
FAILURES, STORAGE, REPORTING = "Failures and time", "Storage", "Reporting"

EndpointUrl = Annotated[str | None, typer.Option(help="URL of an S3-compatible server other than AWS.", rich_help_panel=STORAGE)]
StorageOptions = Annotated[
    str | None,
    typer.Option(
        help="JSON file with fsspec options by URI prefix, for several accounts, profiles or endpoints.", rich_help_panel=STORAGE
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to join: HOST:PORT of its head, or auto. Default: $RAY_ADDRESS; without it Ray is started here.",
        rich_help_panel=RESOURCES,
    ),
]
Cpus = Annotated[int | None, typer.Option(min=1, help="Largest number of CPUs used. Default: all.", rich_help_panel=RESOURCES)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.", rich_help_panel=REPORTING)]
Out = Annotated[str, typer.Argument(metavar="OUT", help="Folder or prefix that a run wrote to.")]


def shared_with(command: Callable[..., Any], names: Iterable[str]) -> Callable[[F], F]:
    """Give a command flags of another one, declared there: names, help and defaults. It takes them as `**flags`.

    Args:
        command: The other one.
        names: Names of its parameters.
    """

    def decorate(function: F) -> F:
        theirs, ours = (inspect.signature(one, eval_str=True).parameters for one in (command, function))
        own = [parameter for parameter in ours.values() if parameter.kind is not parameter.VAR_KEYWORD]
        function.__signature__ = inspect.Signature([*own, *(theirs[name] for name in names)])  # type: ignore[attr-defined]
        return function

    return decorate


def retyped(context: typer.Context, command: str, *, without: Iterable[str]) -> str:
    """Return a command with what was typed for this one.

    Args:
        context: Context of this command.
        command: The other one.
        without: Parameters that it does not have.
    """
    words = ["sep-batch", command]
    for parameter in context.command.params:
        name, source = str(parameter.name), context.get_parameter_source(str(parameter.name))
        if source is None or source.name != "COMMANDLINE" or name in without:
            continue
        value = context.params[name]
        if parameter.param_type_name == "argument":
            words.append(str(value))
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                words += [parameter.opts[0]] if one is True else [parameter.opts[0], str(one)]
    return shlex.join(words)
