"""Checks of `doctor`: the storage operations of a run, and the credentials that are used."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

from sep_batch.jobs.setup.check import Check, note, wrong
from sep_batch.jobs.setup.units import data_size
from sep_batch.pipeline import errors, storage
from sep_batch.pipeline.storage import retries, uris

CONTENT = b"written by sep-batch doctor\n"
FREE_BYTES = 10_000_000_000  # about 200 songs of four minutes, two stems each, as FLAC
CLOCKS_S = 60.0  # largest difference of two clocks: a lease is dead after 90 s
_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a profile in --storage-options"
_GCS_CREDENTIALS = (
    "set GOOGLE_APPLICATION_CREDENTIALS, run gcloud auth application-default login, or name a token in --storage-options"
)
_AZURE_CREDENTIALS = (
    "set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN (or with neither, after az login), "
    "AZURE_STORAGE_CONNECTION_STRING, or the same in --storage-options"
)
_DISK = {
    errno.EROFS: "it is mounted read-only: mount it writable, or use another folder",
    errno.ENOSPC: "the disk is full: free some space, or use another folder",
    errno.EDQUOT: "the quota is full: free some space, or use another folder",
}
_UNREACHED = "check that the server can be reached: --endpoint-url, AWS_ENDPOINT_URL_S3, proxies, firewalls"


def checks(uri: str, options: storage.Options) -> Iterator[Check]:
    """Check that a run can read from a folder or prefix and write to it.

    Args:
        uri: A folder or prefix.
        options: Options of storage; none of them is shown.
    """
    try:
        scheme = uris.check(uri)
    except errors.BadUri as error:
        yield wrong("storage", str(error), "name a folder, or a prefix of s3://, gs:// or az://")
        return
    try:
        uris.target(uri)
    except errors.BadUri as error:
        yield note("storage", str(error), "use it for sources only: --out refuses it")
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
    """Report the source of the credentials for S3, but never the credentials."""
    longest = max((prefix for prefix in options if uri.startswith(prefix)), key=len, default="")
    if {"key", "profile", "anon"} & set(options.get(longest, {})):
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
    """Return a path if it exists, else its nearest existing parent; a run creates the rest."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _space(folder: str, folder_to_make: str) -> Check:
    free = shutil.disk_usage(folder).free
    description = f"{data_size(free)} free in {folder}" + (
        f", where a run will make {folder_to_make}" if folder_to_make != folder else ""
    )
    if free < FREE_BYTES:
        advice = "two FLAC stems take about 12 MB a minute of music: free some space, or use another --out"
        return note("disk", description, advice)
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
        is_exclusive = storage.create(f"{folder}/created", b"1") and not storage.create(f"{folder}/created", b"2")
        step = "remove"
        storage.remove(folder)
    except errors.TrackError as error:
        yield wrong("storage", f"{step}: {error}", advice(error, step, target))
        return
    if fault:
        yield wrong("storage", f"{uris.shown(target)}: {fault}", "do not use this storage: a run could lose data on it")
        return
    yield Check("storage", f"{uris.shown(target)}: written, read, listed, removed")
    if not is_exclusive:
        yield note("storage", "an existing object can be created again", "start no two runs on one OUT: both would get its lease")
    yield from clock


def _clock(modified: datetime | None) -> list[Check]:
    """Compare the storage's clock, which set the time of the new object, with this machine's."""
    difference_s = abs((datetime.now(UTC) - modified).total_seconds()) if modified else 0.0
    if difference_s < CLOCKS_S:
        return []
    advice = "set both by NTP: S3 refuses requests from a difference of 15 min on"
    return [note("clock", f"the clocks of storage and this machine differ by {difference_s:.0f} s", advice)]


def advice(error: errors.TrackError, step: str, uri: str) -> str:
    """Return the next step after an error of storage.

    Args:
        error: The exception.
        step: The step that failed: write, read, list, create or remove.
        uri: Folder or prefix that was tested.
    """
    cause = error.__cause__ or error
    if isinstance(cause, errors.TrackError):  # a TrackError raised from another one
        cause = cause.__cause__ or cause
    if isinstance(cause, ImportError):
        return "install it on every machine, then run this again"
    if isinstance(cause, errors.StorageUnusable):
        return _credentials_of(uri)
    if isinstance(cause, Exception) and retries.is_unusable(cause):
        return _unusable(uri, cause)
    if retries.is_denied(cause):
        return f"give this user, or these credentials, the right to {step} there"
    return _DISK.get(getattr(cause, "errno", None) or 0, "use another folder" if uris.is_local(uri) else _UNREACHED)


def _unusable(uri: str, cause: Exception) -> str:
    if retries.code_of(cause) not in retries.NO_BUCKET_CODES:
        return _DISK.get(getattr(cause, "errno", None) or 0, _credentials_of(uri))
    endpoint = "; for a server other than AWS, set --endpoint-url" if uri.startswith("s3://") else ""
    return f"create the bucket, or correct its name{endpoint}"


def _credentials_of(uri: str) -> str:
    return (
        _CREDENTIALS if uri.startswith("s3://") else _GCS_CREDENTIALS if uri.startswith(("gs:", "gcs:")) else _AZURE_CREDENTIALS
    )
