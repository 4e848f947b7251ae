"""`sync`: for a nightly job. Separate new and changed files below a folder or prefix; report the missing ones, keep their stems.

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
    """Separate the new and changed files of a folder or prefix; its listing is the manifest, with etags or times of change.

    Args:
        source: A folder or prefix that holds audio.
        out: Folder or prefix for stems and index.
        progress: Progress display and log; by default nothing is shown.
        options: The fields of `Options`.

    Returns:
        Summary of the run. Tracks that failed for good in an earlier run do not change its exit code.

    Raises:
        ManifestError: The source is no folder, or holds no audio: that is probably a mistake, and OUT is not called up to date.
        RunError: The run could not start, or a fault of a storage, of Ray or of sep-batch ended it.
    """

    def refuse_without_audio() -> None:
        storage.use(storage_options(options.get("endpoint_url"), options.get("storage_options")))
        _refuse_without_audio(uris.absolute(source), Patterns(options.get("include", ()), options.get("exclude", ())))

    return run_job(source, out, progress=progress, first=refuse_without_audio, **options)


def _refuse_without_audio(source: str, patterns: Patterns) -> None:
    """Refuse a source without audio files. A manifest is refused too: it has no listing that shows which files are gone."""
    files = AudioFiles(source, patterns, with_manifests=True)
    try:
        if not storage.is_folder(source):
            raise errors.ManifestError(f"SOURCE {uris.shown(source)}: expected an existing folder or prefix that holds audio")
        if next(files.below(), None) is None:
            hint = f"; run them with sep-batch run {uris.shown(source)}" * bool(files.manifests)
            raise errors.ManifestError(f"SOURCE: {files.nothing()}{hint}")
    except errors.TrackError as error:
        raise errors.ManifestError(f"SOURCE {error}") from error
