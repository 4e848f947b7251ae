"""Storage: every read and write of the project; a write is whole or nothing.

A URI is a path on this machine or `scheme://...` of a scheme in `uris.SCHEMES`. Credentials come from the environment, by
the variables that docs/guides/storage.md names, or from `use`, never from a URI. Every call retries transient errors. fsspec
is imported in this folder only.

Files:
    filesystems: The file system of a URI, with its options; and the properties of one object.
    reading: Reads of an object: whole, or as a seekable file by ranges.
    writing: Writes of an object: whole or not at all, or only if it does not exist; removal of all below a prefix.
    listing: Listings of a folder or prefix, and patterns.
    uris: Paths and URIs: schemes, absolute forms, printable names.
    retries: Retries of transient errors, with a growing delay.
    threads: One call for many files, in threads.
    objects: Calls that the clients of S3, Google and Azure do not share: pages, removal by key, a missing bucket.
"""

from sep_batch.pipeline.storage.filesystems import Info, Options, require_package, use
from sep_batch.pipeline.storage.listing import Skipped, expand, find
from sep_batch.pipeline.storage.reading import (
    RANGE_BYTES,
    WHOLE_READ_BYTES,
    Ranges,
    exists,
    info,
    is_folder,
    open_ranges,
    open_source,
    read,
)
from sep_batch.pipeline.storage.writing import bring, create, put, put_file, remove

__all__ = [
    "RANGE_BYTES",
    "WHOLE_READ_BYTES",
    "Info",
    "Options",
    "Ranges",
    "Skipped",
    "bring",
    "create",
    "exists",
    "expand",
    "find",
    "info",
    "is_folder",
    "open_ranges",
    "open_source",
    "put",
    "put_file",
    "read",
    "remove",
    "require_package",
    "use",
]
