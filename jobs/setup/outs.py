"""Marks by which a folder or prefix is an OUT, and the run.json of its last run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from sep_batch.jobs.setup.run_json import RunJson
from sep_batch.pipeline import errors as failures
from sep_batch.pipeline import storage
from sep_batch.pipeline.out import layout, lease
from sep_batch.pipeline.storage import uris


def refuse_no_out(out: str) -> None:
    """Refuse what no run wrote to.

    Args:
        out: A path or URI, absolute.

    Raises:
        NotRunnableError: Says what was found there.
    """
    if not storage.is_folder(out):
        kind = "a file" if storage.exists(out) else "not found"
        raise failures.NotRunnableError(f"OUT {out}: {kind}; expected the folder or prefix that a run wrote to")
    marks = (layout.INDEX_FILE, layout.RUN_JSON)
    if not any(storage.exists(f"{out}/{name}") for name in marks) and not lease.newest(out):
        raise failures.NotRunnableError(f"OUT {out}: no run wrote to it; found neither {marks[0]} nor {marks[1]}")


def last_run(out: str) -> dict[str, Any]:
    """Read what the last run wrote of itself into OUT; where none has come to that yet, objects that say nothing.

    Raises:
        NotRunnableError: It is not what a run writes.
    """
    uri, nothing = f"{out}/{layout.RUN_JSON}", dict[str, Any](settings={}, manifest={}, versions={})
    if not storage.exists(uri):
        return nothing
    try:
        content: dict[str, Any] = json.loads(storage.read(uri))
        RunJson.model_validate(content)
    except (ValueError, RecursionError) as error:
        raise failures.NotRunnableError(f"{uri}: not what a run writes ({_why(error)}); remove it to start OUT anew") from error
    return nothing | content


def _why(error: Exception) -> str:
    """Say in a few words what is wrong with a text of JSON."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        return uris.printable(f"{name}: {first['msg']}" if name else first["msg"])
    return uris.printable(str(error))


@contextmanager
def errors(dest: str | None = None) -> Iterator[None]:
    """Name the place of the command line that a storage error is about: OUT, or DEST.

    Args:
        dest: URI of DEST, for commands that have one.

    Raises:
        NotRunnableError: Storage failed.
    """
    try:
        yield
    except failures.TrackError as error:
        place = "DEST" if dest and str(error).startswith(dest) else "OUT"
        raise failures.NotRunnableError(f"{place} {error}") from error
