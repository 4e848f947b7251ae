"""Flags of the command line: those that two commands share, what they mean as options of a run, and the command they make up."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import typer

_FIELDS = {  # of `Options`
    **{name: f"{name}_s" for name in ("offset", "duration", "wait", "time_limit")},
    "sample_rate": "sample_rate_hz",
}
_PARAMETERS = {field: name for name, field in _FIELDS.items()}
F = TypeVar("F", bound=Callable[..., Any])


def flag_of_field(field: str) -> str:
    """Return the flag of `run` that sets a field of `Options`."""
    return f"--{_PARAMETERS.get(field, field).replace('_', '-')}"


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


def as_options(**flags: Any) -> dict[str, Any]:
    """Return flags of `run` as fields of `Options`.

    Raises:
        UsageError: A bitrate that is no number.
    """
    stems = flags["stems"]
    read: dict[str, Any] = {
        "bitrate": _bitrate(flags["bitrate"]),
        "stems": tuple(name.strip() for name in stems.split(",") if name.strip()) if stems else None,
        "analysis": not flags.pop("no_analysis", False),
        "include": tuple(flags["include"] or ()),
        "exclude": tuple(flags["exclude"] or ()),
    }
    return {_FIELDS.get(name, name): value for name, value in (flags | read).items()}


def _bitrate(text: str | None) -> int | None:
    """Read 128k, 320000."""
    from sep_batch.pipeline.errors import UsageError

    if text is None:
        return None
    number, factor = (text[:-1], 1000) if text.lower().endswith("k") else (text, 1)
    if not number.isdigit():
        raise UsageError(f"--bitrate {text}: expected bits per second, as 128k or 320000")
    return int(number) * factor


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
