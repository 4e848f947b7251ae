"""Listings: the objects below a folder or prefix, and those that a pattern names."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from fsspec.implementations.local import LocalFileSystem

from sep_batch.pipeline import errors
from sep_batch.pipeline.storage.filesystems import Info, filesystem_of, info_of
from sep_batch.pipeline.storage.objects import Bucket, bucket_of, missing_bucket_named, pages, refuse_missing_bucket
from sep_batch.pipeline.storage.retries import reading

Skipped = Literal["unreadable folder", "linked folder", "special file"]


def find(uri: str, skipped: Callable[[Skipped, str], None] | None = None) -> Iterator[Info]:
    """List every object below a folder or prefix, in the order of their names; none if there is no such folder.

    Objects are yielded as storage returns them, so a listing of millions takes no memory. On a disk, links to files are
    followed; pipes, sockets, devices and links to folders are skipped.

    Args:
        uri: A folder or prefix.
        skipped: Called with the kind and path of each entry skipped on a disk; without it, an unreadable folder ends the listing.

    Raises:
        AccessDenied: The folder is unreadable, or, without `skipped`, one below it.
    """
    filesystem, path = filesystem_of(uri)
    if isinstance(filesystem, LocalFileSystem):
        return _below_folder(uri.removesuffix(path), path, skipped)
    if located := bucket_of(uri):
        return _below_prefix(uri, *located)
    return _all_below(uri, filesystem, path)


def _below_folder(scheme: str, path: str, skipped: Callable[[Skipped, str], None] | None) -> Iterator[Info]:
    waiting = _entries(path)[::-1]
    while waiting:
        entry = waiting.pop()
        if entry.is_dir(follow_symlinks=False):
            try:
                waiting += _entries(entry.path)[::-1]
            except errors.AccessDenied:
                if skipped is None:
                    raise
                skipped("unreadable folder", entry.path)
        elif kind := _no_file(entry):
            if skipped is not None:
                skipped(kind, entry.path)
        else:
            yield _info_of_entry(f"{scheme}{entry.path}", entry)


def _no_file(entry: os.DirEntry[str]) -> Skipped | None:
    """Return why an entry is no file; None if it is one, or a broken link, which fails when it is read."""
    try:
        mode = entry.stat().st_mode
    except OSError:
        return None
    if stat.S_ISDIR(mode):
        return "linked folder"
    return None if stat.S_ISREG(mode) else "special file"


@reading
def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return a folder's entries, in the order of the paths below it; none if the folder is gone."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _info_of_entry(uri: str, entry: os.DirEntry[str] | Path) -> Info:
    try:
        stat = entry.stat()
    except OSError:  # a broken link, or just removed
        return Info(uri, 0, None)
    return info_of(uri, {"size": stat.st_size, "mtime": stat.st_mtime})


def _below_prefix(uri: str, bucket: Bucket, key: str) -> Iterator[Info]:
    prefix = f"{key}/" if key else ""
    for page in pages(uri, bucket, prefix, reading):
        for entry in page.objects:
            yield info_of(f"{uri.rstrip('/')}/{entry['key'][len(prefix) :]}", entry)


@reading
def _all_below(uri: str, filesystem: Any, path: str) -> Iterator[Info]:
    entries = filesystem.find(path, detail=True)
    below = len(filesystem._strip_protocol(path))  # noqa: SLF001 (fsspec strips its own names so)
    return (info_of(f"{uri.rstrip('/')}{key[below:]}", entries[key]) for key in sorted(entries))


@reading
def expand(pattern: str) -> list[Info]:
    """Return the objects that a glob pattern names, sorted."""
    filesystem, path = filesystem_of(pattern)
    if isinstance(filesystem, LocalFileSystem):
        return [_info_of_entry(key, Path(key)) for key in sorted(filesystem.glob(path)) if not os.path.isdir(key)]
    scheme = pattern.partition("://")[0]
    with missing_bucket_named(pattern):
        entries = filesystem.glob(path, detail=True)
    files = [key for key in sorted(entries) if entries[key]["type"] != "directory"]
    if not files:
        refuse_missing_bucket(pattern)
    return [info_of(f"{scheme}://{key.lstrip('/')}", entries[key]) for key in files]
