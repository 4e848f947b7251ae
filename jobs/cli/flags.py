"""Flags that two commands share, and the command that they make up."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import typer

F = TypeVar("F", bound=Callable[..., Any])


def shared_with(command: Callable[..., Any], names: Iterable[str]) -> Callable[[F], F]:
    """Give a command flags of another one, declared there: names, help and defaults. It takes them as `**flags`.

    Args:
        command: The other one.
        names: Of its parameters.
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
        context: Of this command.
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
