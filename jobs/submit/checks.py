"""Checks of a command before it is submitted: it must parse, and name nothing that exists only on this machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from sep_batch.jobs.setup import options
from sep_batch.pipeline import errors
from sep_batch.pipeline.manifest.patterns import Patterns
from sep_batch.pipeline.storage import uris

HERE_ONLY = ("config", "demo", "models", "submit")  # commands that work on the local machine only
PLACES = ("manifest", "source", "sources", "out", "dest", "to", "uri")  # parameters with the path or URI of a catalog or stems
WRITTEN = ("out", "to", "dest")  # those among them that a command writes to, or wrote to
_FORMAT = ("export", "to")  # the format of a dataset; `to` of other commands is a path
FILES = ("storage_options", "scratch", "input_root", "metrics_file")  # parameters with a path on the nodes


def check(context: typer.Context, words: Sequence[str]) -> typer.Context:
    """Refuse a command that the cluster would refuse, or that needs a path of this machine; return its context.

    Args:
        context: Context of the `submit` command line.
        words: Command to submit with its flags, without `sep-batch`.

    Raises:
        UsageError: The command names a path of this machine, or an invalid value.
        click.UsageError: The command line does not parse.
    """
    parsed = _parsed(context, words)
    parameters = parsed.params
    if parameters.get("address"):
        source = parsed.get_parameter_source("address")
        problem = "--address after the command: expected before it"
        if source is None or source.name != "COMMANDLINE":
            problem = "address in the config file: expected none for a submitted command"
        raise errors.UsageError(f"{problem}; the job joins the cluster that it runs on")
    Patterns(parameters.get("include") or (), parameters.get("exclude") or ())
    if {"format", "stems", "bitrate"} <= set(parameters):
        fields = {field.name for field in dataclasses.fields(options.Options)}
        read = options.as_options(**parameters)
        options.check(options.Options(**{name: value for name, value in read.items() if name in fields}))
    for name, shown, text in _named(parsed):
        if not uris.is_local(text):
            _refuse_unread(name, shown, text, allow_http=bool(parameters.get("allow_http")))
        else:
            _refuse_local(name, shown, text, is_shared=bool(parameters.get("shared_filesystem")))
    return parsed


def _parsed(context: typer.Context, words: Sequence[str]) -> typer.Context:
    root = context.find_root()
    name, command, rest = root.command.resolve_command(root, list(words))  # type: ignore[attr-defined]  # it is a group
    if name in HERE_ONLY:
        raise errors.UsageError(f"{name}: works only on the local machine; expected run, sync or another command for a cluster")
    parsed: typer.Context = command.make_context(name, rest, parent=root)
    return parsed


def _named(parsed: Any) -> Iterator[tuple[str, str, str]]:
    """Yield the arguments of a command that may be paths or URIs: parameter name, name on the command line, and value."""
    for parameter in parsed.command.params:
        if (parsed.info_name, parameter.name) == _FORMAT:
            continue
        value = parsed.params.get(parameter.name)
        is_flag = parameter.param_type_name == "option"
        shown = parameter.opts[0] if is_flag else str(parameter.metavar or parameter.name).upper().rstrip(".")
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str | Path):
                yield parameter.name, shown, str(text)


def _refuse_unread(name: str, shown: str, text: str, *, allow_http: bool) -> None:
    if name not in (*PLACES, "model"):
        return
    try:
        uris.check(text, allow_http=allow_http)
        if name in WRITTEN:
            uris.target(text)
    except errors.BadUri as error:  # credentials in a URI would be readable in the cluster's list of jobs
        raise errors.UsageError(f"{shown} {error}") from error


def _refuse_local(name: str, shown: str, text: str, *, is_shared: bool) -> None:
    if name in PLACES and not is_shared:
        raise errors.UsageError(
            f"{shown} {uris.shown(text)}: a path of this machine, which the cluster does not see; "
            "expected object storage, or --shared-filesystem after the command where every node sees that path"
        )
    is_path = name in (*PLACES, *FILES) or (name == "model" and os.path.exists(text))
    if is_path and not text.startswith(("/", "file:///")):
        path = f"{shown} {uris.shown(text)}"
        raise errors.UsageError(f"{path}: relative to a folder of this machine; expected an absolute path on the nodes")
