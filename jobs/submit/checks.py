"""Checks of a command before it is submitted: it parses here, and names nothing that only this machine has."""

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

HERE_ONLY = ("demo", "models", "submit")  # commands about the machine they are typed on
PLACES = ("manifest", "source", "sources", "out", "dest", "to", "uri")  # parameters that say where a catalog or its stems lie
WRITTEN = ("out", "to", "dest")  # those to which a command writes, or wrote
_FORM = ("export", "to")  # the form of a dataset; of other commands, `to` is a place
FILES = ("storage_options", "scratch", "input_root")  # those that name something on the nodes


def check(context: typer.Context, words: Sequence[str]) -> None:
    """Refuse what the cluster would refuse, or could not know, before it is submitted.

    Args:
        context: Context of the command line that these words are for.
        words: A command with its flags, `sep-batch` left out.

    Raises:
        UsageError: It names a path of this machine, or a value that cannot be meant.
        click.UsageError: It has a typo, as the command itself would say.
    """
    parsed = _parsed(context, words)
    given = parsed.params
    if given.get("address"):
        raise errors.UsageError("--address after the command: expected before it; the job joins the cluster that it runs on")
    Patterns(given.get("include") or (), given.get("exclude") or ())
    if {"format", "stems", "bitrate"} <= set(given):
        fields = {field.name for field in dataclasses.fields(options.Options)}
        read = options.as_options(**given)
        options.check(options.Options(**{name: value for name, value in read.items() if name in fields}))
    for name, shown, text in _named(parsed):
        if not uris.is_local(text):
            _refuse_unread(name, shown, text, allow_http=bool(given.get("allow_http")))
        else:
            _refuse_local(name, shown, text, is_shared=bool(given.get("shared_filesystem")))


def _parsed(context: typer.Context, words: Sequence[str]) -> Any:
    root = context.find_root()
    name, command, rest = root.command.resolve_command(root, list(words))  # type: ignore[attr-defined]  # it is a group
    if name in HERE_ONLY:
        raise errors.UsageError(f"{name}: works on the machine it is typed on, expected run, sync or another that a cluster does")
    return command.make_context(name, rest, parent=root)


def _named(parsed: Any) -> Iterator[tuple[str, str, str]]:
    """Yield each text that a command takes and that may be a place: its parameter, that as it is typed, and the text."""
    for parameter in parsed.command.params:
        if (parsed.info_name, parameter.name) == _FORM:
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
    except errors.BadUri as error:  # one with credentials would be there for all to read
        raise errors.UsageError(f"{shown} {error}") from error


def _refuse_local(name: str, shown: str, text: str, *, is_shared: bool) -> None:
    if name in PLACES and not is_shared:
        raise errors.UsageError(
            f"{shown} {uris.shown(text)}: a path of this machine, which the cluster does not see; "
            "expected object storage, or --shared-filesystem after the command where every node sees that path"
        )
    is_path = name in (*PLACES, *FILES) or (name == "model" and os.path.exists(text))
    if is_path and not text.startswith(("/", "file:///")):
        said = f"{shown} {uris.shown(text)}"
        raise errors.UsageError(f"{said}: relative to a folder of this machine; expected the nodes' own path, from / on")
