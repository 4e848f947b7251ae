"""Writes: an object whole or not at all, or only where there is none; removal of what lies below a prefix."""

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

_TAKEN_CODES = ("PreconditionFailed", "ConditionalRequestConflict")  # of S3, where an object to create is there


@writing
def put(uri: str, content: bytes | memoryview, *, scratch: str | None = None) -> None:
    """Write an object whole or not at all.

    One PUT, or a multipart upload that is completed last; on a disk a temporary file, fsync and rename.

    Args:
        uri: Where to.
        content: All of it.
        scratch: A folder on the same disk for the temporary file; by default the target's own.

    Raises:
        WriteFailed, StorageUnusable: Storage did not take it.
    """
    filesystem, path = filesystem_of(uri)
    if isinstance(filesystem, LocalFileSystem):
        _put_on_disk(Path(path), content, Path(scratch or os.path.dirname(path)))
    else:
        with missing_bucket_named(uri):
            filesystem.pipe_file(path, bytes(content))


@writing
def put_file(uri: str, file: Path) -> None:
    """Write a file of this machine whole or not at all, as `put` does.

    Args:
        uri: Where to; on a disk, the one that holds the file.
        file: It is moved where it can be.

    Raises:
        WriteFailed, StorageUnusable: Storage did not take it.
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
    """Write an object only where there is none, and tell whether it is ours: of many who try at once, one wins.

    Args:
        uri: Where to.
        content: All of it; where an earlier try of ours was applied though its answer was lost, it is recognised by this.

    Raises:
        WriteFailed, StorageUnusable: Storage did not take it.
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
    """Tell whether an object has this content; one that was removed meanwhile has not."""
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
    """Make a folder and those above it.

    Raises:
        NotADirectoryError: One of them is a link to nowhere, as to a disk that is not mounted; Python says that it exists, as
            it says of an object that another run has created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        is_dangling = not Path(error.filename).exists()
        problem = f"{error.filename} is a link to what is not there" if is_dangling else f"{error.filename} is no folder"
        raise NotADirectoryError(errno.ENOTDIR, problem, error.filename) from error


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def remove(uri: str) -> None:
    """Remove an object, a folder or a prefix with all it holds; nothing where it is not there.

    Several processes may remove the same.

    Raises:
        WriteFailed, StorageUnusable: Storage did not do it.
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
        except OSError as error:  # somebody removed some of it, or added to it, as a lease does: what is left is listed again
            if not further or error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
        else:
            return


def bring(uri: str, folder: Path) -> Path:
    """Copy a remote folder's files (not deeper ones) to this machine, and return where.

    Args:
        uri: The folder.
        folder: Where copies of remote folders lie.
    """
    target = folder / hashlib.sha256(uri.encode()).hexdigest()[:16]
    target.mkdir(parents=True, exist_ok=True)
    for info in find(uri):
        put(str(target / uris.name(info.uri)), read(info.uri))
    return target
