"""Checks of `doctor`: every operation of a run on storage, and the credentials that are used."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

from sep_batch.jobs.setup.check import Check, note, wrong
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import retries, uris

CONTENT = b"written by sep-batch doctor\n"
FREE_BYTES = 10_000_000_000  # some 200 songs of four minutes, two stems each, as FLAC
CLOCKS_S = 60.0  # that two may be apart: a lease is dead after 90 s
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a profile in --storage-options"
_GCS_CREDENTIALS = (
    "set GOOGLE_APPLICATION_CREDENTIALS, run gcloud auth application-default login, or name a token in --storage-options"
)
_AZURE_CREDENTIALS = (
    "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN (or with neither, after az login), "
    "AZURE_STORAGE_CONNECTION_STRING, or the same in --storage-options"
)
_DISK = {
    errno.EROFS: "it is mounted read-only: mount it for writing, or take another folder",
    errno.ENOSPC: "the disk is full: free some, or take another folder",
    errno.EDQUOT: "the quota is full: free some, or take another folder",
}
_UNREACHED = "does the server answer at all? See --endpoint-url, AWS_ENDPOINT_URL_S3, proxies, firewalls"


def checks(uri: str, options: storage.Options) -> Iterator[Check]:
    """Tell whether a run could read from a URI and write to it.

    Args:
        uri: A folder or prefix.
        options: How storage is reached; none of it is shown.
    """
    try:
        scheme = uris.check(uri)
    except errors.BadUri as error:
        yield wrong("storage", str(error), "name a folder, or a prefix of s3://, gs:// or az://")
        return
    try:
        uris.target(uri)
    except errors.BadUri as error:
        yield note("storage", str(error), "songs may lie there; as --out it is refused")
    target = uris.absolute(uri)
    if scheme == "s3":
        yield _credentials(target, options)
    if uris.is_local(target):
        folder_to_make, target = target, _nearest(target)
        if not os.path.isdir(target):
            yield wrong("storage", f"{target}: a file", "name a folder")
            return
        yield _space(target, folder_to_make)
    with retries.brief():
        yield from _tried(target)


def _credentials(uri: str, options: storage.Options) -> Check:
    """Say where credentials for S3 come from, and never what they are."""
    given = max((prefix for prefix in options if uri.startswith(prefix)), key=len, default="")
    if {"key", "profile", "anon"} & set(options.get(given, {})):
        return Check("credentials", "those of --storage-options")
    import botocore.exceptions
    import botocore.session

    try:
        credentials = botocore.session.get_session().get_credentials()
    except botocore.exceptions.BotoCoreError as error:
        return wrong("credentials", str(error), _CREDENTIALS)
    if credentials is None:
        return wrong("credentials", "none", _CREDENTIALS)
    return Check("credentials", f"found ({credentials.method})")


def _nearest(path: str) -> str:
    """Return a path, or of the folders that would hold it the first that is there: a run makes the rest."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _space(folder: str, folder_to_make: str) -> Check:
    free = shutil.disk_usage(folder).free
    description = f"{free / 1e9:.1f} GB free in {folder}" + (
        f", where a run will make {folder_to_make}" if folder_to_make != folder else ""
    )
    if free < FREE_BYTES:
        return note("disk", description, "two stems take some 12 MB a minute of music as FLAC: free some, or take another --out")
    return Check("disk", description)


def _tried(target: str) -> Iterator[Check]:
    """Write, read, list, create and remove a small object, as a run does."""
    folder = f"{target}/.sep-batch-doctor-{secrets.token_hex(4)}"
    step, fault = "write", None
    try:
        storage.put(f"{folder}/written", CONTENT)
        step = "read"
        fault = None if storage.read(f"{folder}/written") == CONTENT else "it gives other bytes than were written"
        clock = _clock(storage.info(f"{folder}/written").modified)
        step = "list"
        listed = [uris.name(info.uri) for info in storage.find(folder)]
        fault = fault or (None if listed == ["written"] else f"it lists {listed}, expected what was written")
        step = "create"
        alone = storage.create(f"{folder}/created", b"1") and not storage.create(f"{folder}/created", b"2")
        step = "remove"
        storage.remove(folder)
    except errors.TrackError as error:
        yield wrong("storage", f"{step}: {error}", advice(error, step, target))
        return
    if fault:
        yield wrong("storage", f"{uris.shown(target)}: {fault}", "no run is safe on it; take another")
        return
    yield Check("storage", f"{uris.shown(target)}: written, read, listed, removed")
    if not alone:
        yield note(
            "storage", "an object that is there can be created again", "keep two runs off one OUT: both would hold its lease"
        )
    yield from clock


def _clock(modified: datetime | None) -> list[Check]:
    """Compare storage's clock, as the object that was just written tells it, with this machine's."""
    apart = abs((datetime.now(UTC) - modified).total_seconds()) if modified else 0.0
    if apart < CLOCKS_S:
        return []
    return [
        note("clock", f"storage's is {apart:.0f} s apart from this machine's", "have both set by NTP: S3 refuses from 15 min on")
    ]


def advice(error: errors.TrackError, step: str, uri: str) -> str:
    """Return what to do about what storage said.

    Args:
        error: The exception.
        step: The step that failed: write, read, list, create or remove.
        uri: Where.
    """
    cause = error.__cause__ or error
    if isinstance(cause, errors.TrackError):  # one of ours was made another of ours
        cause = cause.__cause__ or cause
    if isinstance(cause, ImportError):
        return "install it on every machine, then run this again"
    if isinstance(cause, errors.StorageUnusable):
        return _credentials_of(uri)
    if isinstance(cause, Exception) and retries.is_unusable(cause):
        return _unusable(uri, cause)
    if retries.is_denied(cause):
        return f"give this user, or these credentials, the right to {step} there"
    return _DISK.get(getattr(cause, "errno", None) or 0, "take another folder" if uris.is_local(uri) else _UNREACHED)


def _unusable(uri: str, cause: Exception) -> str:
    if retries.code_of(cause) not in retries.NO_BUCKET_CODES:
        return _DISK.get(getattr(cause, "errno", None) or 0, _credentials_of(uri))
    other = "; where the server is not AWS, give --endpoint-url" if uri.startswith("s3://") else ""
    return f"make the bucket, or correct its name{other}"


def _credentials_of(uri: str) -> str:
    return (
        _CREDENTIALS if uri.startswith("s3://") else _GCS_CREDENTIALS if uri.startswith(("gs:", "gcs:")) else _AZURE_CREDENTIALS
    )
