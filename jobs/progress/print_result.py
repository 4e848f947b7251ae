"""The result of a command that only reads: one line of JSON, or words for a person."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def tell(result: DataclassInstance, words: Iterable[str], *, as_json: bool) -> None:
    """Print what was found on stdout.

    Args:
        result: All of it.
        words: The same for a person, a line each; not made where nobody asks for them.
        as_json: Print one line of JSON instead.
    """
    for line in [json.dumps(asdict(result))] if as_json else words:
        typer.echo(line)
