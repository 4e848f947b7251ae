"""The result of `status`, `failures` or `verify`: one line of JSON, or text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def tell(result: DataclassInstance, words: Iterable[str], *, as_json: bool) -> None:
    """Print a result on stdout.

    Args:
        result: Result, as a dataclass.
        words: Lines of its text; not iterated with `as_json`.
        as_json: Print one line of JSON instead of the text.
    """
    for line in [json.dumps(asdict(result))] if as_json else words:
        typer.echo(line)
