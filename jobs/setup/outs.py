"""Marks by which a folder or prefix is an OUT, and the run.json of its last run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from sep_batch.jobs.setup.run_json import RunJson
from sep_batch.pipeline import errors as failures
from sep_batch.pipeline import storage
from sep_batch.pipeline.out import layout, lease
from sep_batch.pipeline.stages import machine_requirements
from sep_batch.pipeline.storage import uris


def refuse_no_out(out: str) -> None:
    """Refuse a folder or prefix that no run wrote to.

    Args:
        out: A path or URI, absolute.

    Raises:
        NotRunnableError: No run wrote to it; names what was found there.
    """
    if not storage.is_folder(out):
        kind = "a file" if storage.exists(out) else "not found"
        raise failures.NotRunnableError(f"OUT {out}: {kind}; expected the folder or prefix that a run wrote to")
    marks = (layout.INDEX_FILE, layout.RUN_JSON)
    if not any(storage.exists(f"{out}/{name}") for name in marks) and not lease.newest(out):
        raise failures.NotRunnableError(f"OUT {out}: no run wrote to it; found neither {marks[0]} nor {marks[1]}")


def run_at_work(out: str) -> str | None:
    """Return a description of the run that works on OUT, None without one."""
    newest = lease.newest(out)
    return str(newest) if newest and not newest.is_over and newest.silent_s < lease.DEAD_S else None


def begin(folder: str, run: str, name: str, content: Mapping[str, Any]) -> None:
    """Remove parts and plans that interrupted runs left, and write OUT's run.json, or DEST's export.json.

    Args:
        folder: OUT or DEST.
        run: Name of the run.
        name: Path of the file in the folder.
        content: Content of the file.
    """
    for left in (layout.PARTS, layout.PLAN):
        storage.remove(f"{folder}/{left}")
    text = json.dumps(content, indent=2, sort_keys=True)
    storage.put(f"{folder}/{name}", text.encode(), scratch=layout.parts_folder(folder, run))


def last_run(out: str) -> dict[str, Any]:
    """Return OUT's run.json, which its last run wrote; with empty objects if no run has written it yet.

    Raises:
        NotRunnableError: Its content is not valid.
    """
    uri, nothing = f"{out}/{layout.RUN_JSON}", dict[str, Any](settings={}, manifest={}, versions={})
    if not storage.exists(uri):
        return nothing
    try:
        content: dict[str, Any] = json.loads(storage.read(uri))
        RunJson.model_validate(content)
    except (ValueError, RecursionError) as error:
        problem = f"{uri}: not valid ({_why(error)})"
        raise failures.NotRunnableError(f"{problem}; remove this file, and the next run writes a new one") from error
    return nothing | content


def other_torch(run_json: Mapping[str, Any]) -> list[str]:
    """Return a warning if OUT's last run had another version of torch, else nothing.

    Args:
        run_json: Content of the last run's run.json, as `last_run` returns it.
    """
    ours, theirs = machine_requirements.versions()["torch"], run_json["versions"].get("torch")
    if theirs is None or theirs.partition("+")[0] == ours.partition("+")[0]:  # the build, as +cpu, comes after +
        return []
    before = uris.printable(theirs)
    return [
        f"OUT was made with torch {before}, this is {ours}: stems may differ in the last bit; for the same bytes use {before}"
    ]


def _why(error: Exception) -> str:
    """Return the fault of a JSON text, in a few words."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        return uris.printable(f"{name}: {first['msg']}" if name else first["msg"])
    return uris.printable(str(error))


@contextmanager
def errors(dest: str | None = None) -> Iterator[None]:
    """Turn storage errors into errors that name the argument of the command line: OUT, or DEST.

    Args:
        dest: URI of DEST, for commands that have one.

    Raises:
        NotRunnableError: Storage failed.
    """
    try:
        yield
    except failures.TrackError as error:
        argument = "DEST" if dest and str(error).startswith(dest) else "OUT"
        raise failures.NotRunnableError(f"{argument} {error}") from error
