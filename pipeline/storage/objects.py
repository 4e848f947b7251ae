"""Calls of object storage that differ between clients: pages of a listing, removal by key, a missing bucket.

fsspec's own `find` and `rm` hold a whole listing in memory, read `*` and `[` in a key as a pattern, and do not distinguish a
missing bucket from an empty one. So each client's public server call is used: `call_s3` of s3fs, `call` of gcsfs, and Azure's SDK
below adlfs. obstore has one call for the three, but it uses another API of Google's, which no installable emulator supports,
reports the server's error codes as text only, and would be a second client with options and credentials of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fsspec.asyn import sync

from sep_batch.pipeline.storage.filesystems import filesystem_of
from sep_batch.pipeline.storage.retries import NO_BUCKET_CODES, NoSuchBucketError, code_of, is_storages
from sep_batch.pipeline.storage.threads import in_threads

PAGE_OBJECTS = 1000  # the most that S3 and Google list in one page, and that S3 removes at once


@dataclass(frozen=True)
class Page:
    """One page of a listing.

    Attributes:
        objects: The client's entry of each object, with its key and size as `key` and `size`.
        token: Token of the next page; None after the last.
    """

    objects: list[dict[str, Any]]
    token: str | None


AskPage = Callable[[str, str | None], Page]  # takes a URI and a page's token


class Bucket(ABC):
    """A bucket, or Azure container, with its client's calls."""

    def __init__(self, filesystem: Any, name: str) -> None:
        self.filesystem, self.name = filesystem, name

    @abstractmethod
    def page(self, prefix: str, token: str | None, most: int) -> Page:
        """List objects whose key begins with a prefix, in the order of their keys.

        Args:
            prefix: Prefix of the keys; empty for the whole bucket.
            token: Token of the page before; None for the first.
            most: Objects in the page, at most `PAGE_OBJECTS`.
        """

    @abstractmethod
    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most `PAGE_OBJECTS`; missing ones are no error."""


class S3Bucket(Bucket):
    """A bucket of S3, by s3fs."""

    def page(self, prefix: str, token: str | None, most: int) -> Page:
        """List some objects."""
        options = dict(self.filesystem.req_kw) | ({"ContinuationToken": token} if token else {})
        page = self.filesystem.call_s3("list_objects_v2", Bucket=self.name, Prefix=prefix, MaxKeys=most, **options)
        objects = [{**entry, "key": entry["Key"], "size": entry["Size"]} for entry in page.get("Contents", ())]
        return Page(objects, page["NextContinuationToken"] if page.get("IsTruncated") else None)

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects in one request."""
        named = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self.filesystem.call_s3("delete_objects", Bucket=self.name, Delete=named, **self.filesystem.req_kw)
        for error in answer.get("Errors", ()):
            if error["Code"] != "NoSuchKey":
                raise OSError(f"{error['Key']}: {error['Code']}: {error.get('Message', 'not removed')}")


class GcsBucket(Bucket):
    """A bucket of Google Cloud Storage, by gcsfs, whose 404 is the same for a missing bucket and a missing object."""

    def page(self, prefix: str, token: str | None, most: int) -> Page:
        """List some objects."""
        parameters = {"prefix": prefix, "maxResults": most, "pageToken": token}
        try:
            page = self.filesystem.call("GET", "b/{}/o", self.name, json_out=True, **parameters)
        except FileNotFoundError as error:
            raise NoSuchBucketError(self.name) from error
        objects = [{**entry, "key": entry["name"], "size": int(entry["size"])} for entry in page.get("items", ())]
        return Page(objects, page.get("nextPageToken"))

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, each in a request of its own, many at once."""
        deque(in_threads(self._remove, keys), maxlen=0)

    def _remove(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self.filesystem.call("DELETE", "b/{}/o/{}", self.name, key)


class AzureBucket(Bucket):
    """A container of Azure Blob Storage, by the SDK below adlfs."""

    def page(self, prefix: str, token: str | None, most: int) -> Page:
        """List some objects, without markers of folders."""
        blobs, further = sync(self.filesystem.loop, self._page, prefix, token, most)
        return Page([{**blob, "key": blob["name"], "size": blob["size"]} for blob in blobs if not _is_folder(blob)], further)

    async def _page(self, prefix: str, token: str | None, most: int) -> tuple[list[Any], str | None]:
        container = self.filesystem.service_client.get_container_client(self.name)
        blobs = container.list_blobs(name_starts_with=prefix, include=["metadata"], results_per_page=most)
        pages = blobs.by_page(continuation_token=token)
        return [blob async for blob in await anext(pages)], pages.continuation_token or None

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, each in a request of its own, many at once."""
        deque(in_threads(self._remove, keys), maxlen=0)

    def _remove(self, key: str) -> None:
        from azure.core.exceptions import ResourceNotFoundError

        container = self.filesystem.service_client.get_container_client(self.name)
        try:
            sync(self.filesystem.loop, container.delete_blob, key)
        except ResourceNotFoundError as error:
            if code_of(error) in NO_BUCKET_CODES:
                raise


def _is_folder(blob: Any) -> bool:
    """Return whether a blob is the marker of a folder: accounts with a hierarchical namespace list those too."""
    metadata = {name.lower(): value for name, value in (blob["metadata"] or {}).items()}
    return "true" in (metadata.get("hdi_isfolder"), metadata.get("is_directory"))


_BUCKETS: dict[str, type[Bucket]] = {
    "s3": S3Bucket,
    **dict.fromkeys(("gs", "gcs"), GcsBucket),
    **dict.fromkeys(("az", "abfs", "abfss"), AzureBucket),
}


def bucket_of(uri: str) -> tuple[Bucket, str] | None:
    """Return the bucket of a URI, and the key in it; None if it has no bucket."""
    scheme, _, path = uri.partition("://")
    if scheme not in _BUCKETS:
        return None
    filesystem, _ = filesystem_of(uri)
    name, _, key = path.partition("/")
    return _BUCKETS[scheme](filesystem, name), key.rstrip("/")


def pages(uri: str, bucket: Bucket, prefix: str, retried: Callable[[AskPage], AskPage]) -> Iterator[Page]:
    """Yield the pages of a listing.

    Args:
        uri: URI that is listed, for errors.
        bucket: Its bucket.
        prefix: Prefix of the keys.
        retried: `retries.reading` or `retries.writing`: retries each page, and decides the errors' classes.
    """

    def ask(_uri: str, token: str | None) -> Page:
        return bucket.page(prefix, token, PAGE_OBJECTS)

    ask_page, token = retried(ask), None
    while True:
        page = ask_page(uri, token)
        yield page
        if (token := page.token) is None:
            return


@contextmanager
def missing_bucket_named(uri: str) -> Iterator[None]:
    """Raise an error that names a missing bucket within the block, if the client's is the same as for a missing object.

    Raises:
        Exception: The client's, for a missing bucket.
    """
    try:
        yield
    except FileNotFoundError as error:
        if code_of(error) is None:
            refuse_missing_bucket(uri)
        raise


def refuse_missing_bucket(uri: str) -> None:
    """Check that a URI's bucket exists, as far as the credentials may know it.

    Raises:
        Exception: The client's, for a missing bucket.
    """
    if located := bucket_of(uri):
        try:
            located[0].page("", None, 1)
        except Exception as error:
            if not is_storages(error) or code_of(error) in NO_BUCKET_CODES:
                raise  # any other error, as of a bucket that may not be listed, does not show that it is missing
