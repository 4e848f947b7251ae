"""Options of storage: `--endpoint-url` and `--storage-options`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import uris


def storage_options(endpoint_url: str | None, file: str | None) -> storage.Options:
    """Return the options of storage by URI prefix.

    Args:
        endpoint_url: URL of the S3 server, for all S3 URIs without options in the file.
        file: Path of a JSON file with fsspec options by URI prefix.

    Raises:
        UsageError: The endpoint is no URL or holds credentials, or the file is not valid; the message shows no secrets.
    """
    options: dict[str, dict[str, Any]] = {}
    if endpoint_url:
        if not endpoint_url.startswith(("http://", "https://")):
            raise errors.UsageError(f"--endpoint-url {uris.shown(endpoint_url)}: expected http://... or https://...")
        if "@" in endpoint_url:
            shown = uris.shown(endpoint_url)
            raise errors.UsageError(f"--endpoint-url {shown}: holds credentials; put them in the environment instead")
        options["s3://"] = {"endpoint_url": endpoint_url}
    if file is None:
        return options
    name = f"--storage-options {file}"
    try:
        content = json.loads(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise errors.UsageError(f"{name}: not readable as JSON ({type(error).__name__})") from None
    if not isinstance(content, dict) or not all(isinstance(values, dict) for values in content.values()):
        raise errors.UsageError(
            f'{name}: expected an object of options by URI prefix, as {{"s3://bucket/": {{"profile": "mine"}}}}'
        )
    for prefix in content:
        if uris.is_local(prefix) or prefix.partition("://")[0] not in uris.SCHEMES:
            raise errors.UsageError(f"{name}: prefix {prefix[:60]!r}, expected one that begins with s3://, gs:// or az://")
    return options | content
