"""Writes: an object whole or not at all, or only if it does not exist; removal of everything below a prefix."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from sep_batch.pipeline.storage import uris
from sep_batch.pipeline.storage.filesystems import filesystem_of
from sep_batch.pipeline.storage.listing import find
from sep_batch.pipeline.storage.objects import Bucket, bucket_of, missing_bucket_named, pages
from sep_batch.pipeline.storage.reading import read
from sep_batch.pipeline.storage.retries import LISTINGS, code_of, writing

_TAKEN_CODES = ("PreconditionFailed", "ConditionalRequestConflict")  # S3's, if an object to create exists


@writing
def put(uri: str, content: bytes | memoryview, *, scratch: str | None = None) -> None:
    """Write an object whole or not at all.

    One PUT, or a multipart upload that is completed last; on a disk a temporary file, fsync and rename.

    Args:
        uri: URI to write to.
        content: The whole content.
        scratch: Folder on the same disk for the temporary file; by default the target's own.

    Raises:
        WriteFailed, StorageUnusable: Storage refused it.
    """
    filesystem, path = filesystem_of(uri)
    if isinstance(filesystem, LocalFileSystem):
        _put_on_disk(Path(path), content, Path(scratch or os.path.dirname(path)))
    else:
        with missing_bucket_named(uri):
            filesystem.pipe_file(path, bytes(content))


@writing
def put_file(uri: str, file: Path) -> None:
    """Write a local file whole or not at all, as `put` does.

    Args:
        uri: URI to write to; if on a disk, on the file's own.
        file: The local file; on a disk it is moved.

    Raises:
        WriteFailed, StorageUnusable: Storage refused it.
    """
    filesystem, path = filesystem_of(uri)
    if isinstance(filesystem, LocalFileSystem):
        _make_folder(Path(path).parent)
        with file.open("rb+") as written:
            os.fsync(written.fileno())
        file.replace(path)
        _sync_folder(Path(path).parent)
    else:
        with missing_bucket_named(uri):
            filesystem.put_file(str(file), path)


@writing
def create(uri: str, content: bytes) -> bool:
    """Write an object only if it does not exist; return whether this call wrote it. Of concurrent calls, one wins.

    Args:
        uri: URI to write to.
        content: The whole content; it identifies the object of an earlier try of this call whose answer was lost.

    Raises:
        WriteFailed, StorageUnusable: Storage refused it.
    """
    filesystem, path = filesystem_of(uri)
    try:
        if isinstance(filesystem, LocalFileSystem):
            _make_folder(Path(path).parent)
            with Path(path).open("xb") as file:
                file.write(content)
        else:
            with missing_bucket_named(uri):
                filesystem.pipe_file(path, content, mode="create")
    except OSError as error:
        if isinstance(error, FileExistsError) or code_of(error) in _TAKEN_CODES:
            return _holds(filesystem, path, content)
        raise
    return True


def _holds(filesystem: Any, path: str, content: bytes) -> bool:
    """Return whether an object has this content; False if it was removed meanwhile."""
    try:
        return bool(filesystem.cat_file(path) == content)
    except FileNotFoundError:
        return False


def _put_on_disk(path: Path, content: bytes | memoryview, scratch: Path) -> None:
    _make_folder(scratch)
    _make_folder(path.parent)
    temporary = scratch / f".{path.name[:100]}.{secrets.token_hex(8)}.part"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        NotADirectoryError: One of them is a file, or a broken link, as to a disk that is not mounted. Python's FileExistsError
            would be read as an object that another run has created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        is_dangling = not Path(error.filename).exists()
        problem = f"{error.filename} is a link to a missing target" if is_dangling else f"{error.filename} is not a folder"
        raise NotADirectoryError(errno.ENOTDIR, problem, error.filename) from error


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove(uri: str) -> None:
    """Remove an object, or a folder or prefix with all it holds; do nothing if it does not exist.

    Several processes may remove the same at once.

    Raises:
        WriteFailed, StorageUnusable: Storage refused it.
    """
    if located := bucket_of(uri):
        _remove_objects(uri, *located)
    else:
        _remove_folder(uri)


def _remove_objects(uri: str, bucket: Bucket, key: str) -> None:
    _remove_keys(uri, bucket, [key])
    for page in pages(uri, bucket, f"{key}/", writing):
        if page.objects:
            _remove_keys(uri, bucket, [entry["key"] for entry in page.objects])


@writing
def _remove_keys(_uri: str, bucket: Bucket, keys: list[str]) -> None:
    bucket.remove(keys)


@writing
def _remove_folder(uri: str) -> None:
    filesystem, path = filesystem_of(uri)
    for further in reversed(range(LISTINGS)):
        if not filesystem.exists(path):
            return
        try:
            filesystem.rm(path, recursive=True)
        except OSError as error:  # another process removed or added something, as a lease does: list again
            if not further or error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
        else:
            return


def bring(uri: str, folder: Path) -> Path:
    """Copy the files below a remote folder into one local folder, under their file names, and return it.

    Args:
        uri: The remote folder.
        folder: Local folder for copies of remote folders.
    """
    target = folder / hashlib.sha256(uri.encode()).hexdigest()[:16]
    target.mkdir(parents=True, exist_ok=True)
    for info in find(uri):
        put(str(target / uris.name(info.uri)), read(info.uri))
    return target
