"""How storage is reached, as `--endpoint-url` and `--storage-options` say; and what makes a folder or prefix an OUT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sep_batch.pipeline import failures, index, lease, storage, uris


def storage_options(endpoint_url: str | None, file: str | None) -> storage.Options:
    """Read how storage is reached.

    Args:
        endpoint_url: Of the S3 server, for all S3 URIs that the file says nothing of.
        file: JSON, fsspec's options by URI prefix.

    Raises:
        UsageError: The file is not what it should be; nothing of what it holds is shown.
    """
    options: dict[str, dict[str, Any]] = {}
    if endpoint_url:
        options["s3://"] = {"endpoint_url": endpoint_url}
    if file is None:
        return options
    name = f"--storage-options {file}"
    try:
        told = json.loads(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise failures.UsageError(f"{name}: not readable as JSON ({type(error).__name__})") from None
    if not isinstance(told, dict) or not all(isinstance(values, dict) for values in told.values()):
        raise failures.UsageError(
            f'{name}: expected an object of options by URI prefix, as {{"s3://bucket/": {{"profile": "mine"}}}}'
        )
    for prefix in told:
        if uris.is_local(prefix) or prefix.partition("://")[0] not in uris.SCHEMES:
            raise failures.UsageError(f"{name}: prefix {prefix[:60]!r}, expected one that begins with s3://, gs:// or az://")
    return options | told


def refuse_no_out(out: str) -> None:
    """Refuse what no run wrote to.

    Args:
        out: A path or URI, absolute.

    Raises:
        NotRunnableError: Says what was found there.
    """
    if not storage.is_folder(out):
        found = "a file" if storage.exists(out) else "not found"
        raise failures.NotRunnableError(f"OUT {out}: {found}; expected the folder or prefix that a run wrote to")
    marks = (index.INDEX_FILE, "_sep/run.json")
    if not any(storage.exists(f"{out}/{name}") for name in marks) and not lease.newest(out):
        raise failures.NotRunnableError(f"OUT {out}: no run wrote to it; found neither {marks[0]} nor {marks[1]}")


def last_run(out: str) -> dict[str, Any]:
    """Read what the last run wrote of itself into OUT; where it has not come to that yet, objects that say nothing.

    Raises:
        NotRunnableError: It is not what a run writes.
    """
    uri, nothing = f"{out}/_sep/run.json", dict[str, Any](settings={}, manifest={}, versions={})
    try:
        told = nothing | dict(json.loads(storage.read(uri)))
    except failures.NotFound:
        return nothing
    except (ValueError, TypeError) as error:
        raise failures.NotRunnableError(f"{uri}: not what a run writes ({error})") from error
    return told
