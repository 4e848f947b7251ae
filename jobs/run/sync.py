"""`sync`: the nightly job. What is new below a folder or prefix, or has changed, is separated; what is gone is told, and kept.

from sep_batch.jobs.run import run_sync
summary = run_sync("s3://bucket/songs", "s3://bucket/stems")
"""

from __future__ import annotations

from typing import Any

from sep_batch.jobs.progress.progress import Progress
from sep_batch.jobs.progress.summary import Summary
from sep_batch.jobs.run.run import run_job
from sep_batch.jobs.setup.storage_options import storage_options
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.manifest.audio_files import AudioFiles
from sep_batch.pipeline.manifest.patterns import Patterns
from sep_batch.pipeline.storage import uris


def run_sync(source: str, out: str, *, progress: Progress | None = None, **options: Any) -> Summary:
    """Bring OUT up to a folder or prefix. Its listing is the manifest: a file's etag, or time, says whether it has changed.

    Args:
        source: A folder or prefix that holds audio.
        out: Where to.
        progress: As `run_job` takes it.
        options: As `run_job` takes them.

    Returns:
        What was done, as `run_job` does. What failed for good on another night changes no exit code.

    Raises:
        ManifestError: The source is no folder, or holds no audio: perhaps a mistake, and no reason to call OUT up to date.
        RunError: As `run_job`.
    """
    storage.use(storage_options(options.get("endpoint_url"), options.get("storage_options")))
    _refuse_without_audio(uris.absolute(source), Patterns(options.get("include", ()), options.get("exclude", ())))
    return run_job(source, out, progress=progress, **options)


def _refuse_without_audio(source: str, patterns: Patterns) -> None:
    """Refuse what lists no audio, so that a manifest is not run either: no listing would say what of it is gone."""
    said = f"SOURCE {uris.shown(source)}"
    files = AudioFiles(source, patterns, with_manifests=True)
    try:
        if not storage.is_folder(source):
            raise errors.ManifestError(f"{said}: expected a folder or prefix that holds audio, and is there")
        if next(files.below(), None) is None:
            hint = f"; they are for sep-batch run {uris.shown(source)}" * bool(files.manifests)
            raise errors.ManifestError(f"SOURCE: {files.nothing()}{hint}")
    except errors.TrackError as error:
        raise errors.ManifestError(f"SOURCE {error}") from error
