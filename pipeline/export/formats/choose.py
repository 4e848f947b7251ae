"""The writer of a format, by its name. No format's library is imported before it is used."""

from __future__ import annotations

from importlib.util import find_spec

from sep_batch.pipeline import errors, extras
from sep_batch.pipeline.export.formats.base import ShardFolder, Writer

EXTRA = "export"
LIBRARIES = {"webdataset": "webdataset", "hf": "datasets", "lhotse": "lhotse"}  # of that extra, by format


def refuse_missing(to: str) -> None:
    """Refuse a format whose library is not installed.

    Raises:
        NotRunnableError: It is missing; the message says how to install it.
    """
    library = LIBRARIES.get(to)
    if library and find_spec(library) is None:
        raise errors.NotRunnableError(f"--to {to}: the package {library} is missing; {extras.to_install(EXTRA)}")


def writer(shard: ShardFolder) -> Writer:
    """Return the writer of a shard."""
    to = shard.settings.to
    if to == "webdataset":
        from sep_batch.pipeline.export.formats.webdataset import Tar

        return Tar(shard)
    if to == "lhotse":
        from sep_batch.pipeline.export.formats.lhotse import Shar

        return Shar(shard)
    if to == "musdb":
        from sep_batch.pipeline.export.formats.musdb import Folders

        return Folders(shard)
    from sep_batch.pipeline.export.formats.parquet import Table

    return Table(shard)
