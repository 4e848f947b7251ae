"""Calls that the clients of object storage do not share: pages of a listing, removal by key, a missing bucket.

fsspec's own `find` and `rm` hold a listing whole, take `*` and `[` in a key for a pattern, and do not tell a missing bucket from
an empty one. So each client's public call of its server is used: `call_s3` of s3fs, `call` of gcsfs, and Azure's SDK below
adlfs. obstore has one call for the three, but speaks to Google by another API, which no emulator that can be installed here
answers, gives the server's error codes as text only, and would be a second client with options and credentials of its own.
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

PAGE_OBJECTS = 1000  # what S3 and Google give at most, and what S3 removes at once


@dataclass(frozen=True)
class Page:
    """Some objects of a listing.

    Attributes:
        objects: The client's entry of each object, with its key and size as `key` and `size`.
        token: Where the next page begins; None after the last.
    """

    objects: list[dict[str, Any]]
    token: str | None


AskPage = Callable[[str, str | None], Page]  # of a URI and a page's token


class Bucket(ABC):
    """A bucket, or container, as its client reaches it."""

    def __init__(self, filesystem: Any, name: str) -> None:
        self.filesystem, self.name = filesystem, name

    @abstractmethod
    def page(self, prefix: str, token: str | None, most: int) -> Page:
        """List objects whose key begins with a prefix, in the order of their keys.

        Args:
            prefix: Empty for all of the bucket.
            token: Token of the page before; None for the first.
            most: Objects in the page, at most `PAGE_OBJECTS`.
        """

    @abstractmethod
    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects, at most `PAGE_OBJECTS`; those that are not there are no error."""


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
        """List some objects, without what stands for a folder."""
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
    """Tell whether a blob stands for a folder: accounts with a hierarchical namespace list those too."""
    metadata = {name.lower(): value for name, value in (blob["metadata"] or {}).items()}
    return "true" in (metadata.get("hdi_isfolder"), metadata.get("is_directory"))


_BUCKETS: dict[str, type[Bucket]] = {
    "s3": S3Bucket,
    **dict.fromkeys(("gs", "gcs"), GcsBucket),
    **dict.fromkeys(("az", "abfs", "abfss"), AzureBucket),
}


def bucket_of(uri: str) -> tuple[Bucket, str] | None:
    """Return the bucket of a URI, and the key in it; None for what is in no bucket."""
    scheme, _, path = uri.partition("://")
    if scheme not in _BUCKETS:
        return None
    filesystem, _ = filesystem_of(uri)
    name, _, key = path.partition("/")
    return _BUCKETS[scheme](filesystem, name), key.rstrip("/")


def pages(uri: str, bucket: Bucket, prefix: str, tried: Callable[[AskPage], AskPage]) -> Iterator[Page]:
    """Yield the pages of a listing.

    Args:
        uri: URI that is listed, for errors.
        bucket: Its bucket.
        prefix: Prefix of the keys.
        tried: `retries.reading` or `retries.writing`, whose errors these are.
    """

    def ask(_uri: str, token: str | None) -> Page:
        return bucket.page(prefix, token, PAGE_OBJECTS)

    ask_page, token = tried(ask), None
    while True:
        page = ask_page(uri, token)
        yield page
        if (token := page.token) is None:
            return


@contextmanager
def missing_bucket_named(uri: str) -> Iterator[None]:
    """Have a missing bucket told from a missing object within the block, where the client's error does not.

    Raises:
        Exception: The client's, of a bucket that is missing.
    """
    try:
        yield
    except FileNotFoundError as error:
        if code_of(error) is None:
            refuse_missing_bucket(uri)
        raise


def refuse_missing_bucket(uri: str) -> None:
    """Make sure that a URI's bucket is there, as far as one may know that.

    Raises:
        Exception: The client's, of a bucket that is missing.
    """
    if located := bucket_of(uri):
        try:
            located[0].page("", None, 1)
        except Exception as error:
            if not is_storages(error) or code_of(error) in NO_BUCKET_CODES:
                raise  # else it may not be listed, or not now: then nothing is known of it
