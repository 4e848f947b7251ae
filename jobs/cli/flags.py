"""Flags that several commands share, the panels of `--help`, and command lines made of flags."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import typer

from sep_batch.jobs.cli.configured import negation

F = TypeVar("F", bound=Callable[..., Any])

TRACKS, OUTPUT, RESOURCES = "Tracks and model", "Output", "Resources"
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
        help="Ray cluster to join: HOST:PORT of its head, or auto. Default: $RAY_ADDRESS, else this machine.",
        rich_help_panel=RESOURCES,
    ),
]
Cpus = Annotated[int | None, typer.Option(min=1, help="Largest number of CPUs used. Default: all.", rich_help_panel=RESOURCES)]
Engine = Annotated[
    str,
    typer.Option(
        help="local runs the stages in this process, on at most one GPU; ray starts or joins Ray; auto takes local for less than "
        "an hour of audio (unknown durations count 4 minutes) on one machine with at most one GPU.",
        rich_help_panel=RESOURCES,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.", rich_help_panel=REPORTING)]
Out = Annotated[str, typer.Argument(metavar="OUT", help="Folder or prefix that a run wrote to.")]


def shared_with(command: Callable[..., Any], names: Iterable[str]) -> Callable[[F], F]:
    """Give a command flags that another command declares: names, help and defaults. It takes them as `**options`.

    Args:
        command: The other command.
        names: Names of its parameters.
    """

    def decorate(function: F) -> F:
        theirs, ours = (inspect.signature(callback, eval_str=True).parameters for callback in (command, function))
        own = [parameter for parameter in ours.values() if parameter.kind is not parameter.VAR_KEYWORD]
        function.__signature__ = inspect.Signature([*own, *(theirs[name] for name in names)])  # type: ignore[attr-defined]
        return function

    return decorate


def retyped(context: typer.Context, command: str, *, without: Iterable[str]) -> str:
    """Return the command line of another command with the flags that were typed for this one.

    A flag that is not typed, but in this command's own table of the config file, is among them.

    Args:
        context: Context of this command.
        command: Name of the other command.
        without: Parameters that the other command does not have.
    """
    tables: Mapping[str, str] = getattr(context.default_map, "tables", {})
    own = {name for name, table in tables.items() if table.rpartition(".")[2] == context.info_name != command}
    return shlex.join(["sep-batch", command, *_words(context, own, without)])


def resolved(context: typer.Context) -> list[str]:
    """Return a command line without `sep-batch`, as words, with the values of its config file as flags in place of --config."""
    return [str(context.info_name), *_words(context, context.default_map or {}, ("config", "profile"))]


def _words(context: typer.Context, names: Container[str], without: Iterable[str]) -> Iterator[str]:
    """Yield the words that set the typed parameters of a command, and those of these names."""
    values = {"config": getattr(context.default_map, "config", None), "profile": getattr(context.default_map, "profile", None)}
    for parameter in context.command.params:
        name, source = str(parameter.name), context.get_parameter_source(str(parameter.name))
        is_kept = source is not None and (source.name == "COMMANDLINE" or (source.name == "DEFAULT_MAP" and name in names))
        if not is_kept or name in without:
            continue
        value = (values | context.params)[name]
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, bool):
                yield parameter.opts[0] if item else negation(parameter)
            else:
                yield from [str(item)] if parameter.param_type_name == "argument" else [parameter.opts[0], str(item)]
