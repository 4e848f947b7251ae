"""Mapping of storage clients' errors to those of pipeline/errors.py, and retries of transient ones.

A client's error is one of three: an object's own (missing, or access denied); a transient one, which is retried here with
back-off; or the whole storage's (credentials, bucket, a full disk), which no retry fixes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

import tenacity

from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris

TRIES = 8
PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0  # between two tries: random, up to twice as long each time
LONGEST_S = 180.0  # no further try begins after this time
LISTINGS = 8  # of the same objects, before it is an error that one is removed before it is read
NO_BUCKET_CODES = ("NoSuchBucket", "ContainerNotFound")
UNUSABLE_CODES = (  # nothing in that bucket can be read or written with these credentials
    *NO_BUCKET_CODES,
    *("AccountProblem", "AllAccessDisabled", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId"),  # S3's
    *("InvalidSecurity", "InvalidToken", "NotSignedUp", "RequestTimeTooSkewed", "SignatureDoesNotMatch"),
    "401",  # Google's, for missing, wrong or expired credentials; what they do not allow is a 403
    *("AccountIsDisabled", "AuthenticationFailed", "AuthorizationFailure", "InvalidAuthenticationInfo"),  # Azure's
    *("KeyBasedAuthenticationNotPermitted", "NoAuthenticationInformation", "PublicAccessNotPermitted"),
)
ARCHIVED_CODES = ("InvalidObjectState", "BlobArchived", "BlobBeingRehydrated")  # S3's, with a 403, and Azure's, with a 409
_UNUSABLE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_NOWHERE = (errno.ELOOP, errno.ENAMETOOLONG)
_CLIENTS = ("aiobotocore", "aiohttp", "adlfs", "azure", "botocore", "gcsfs", "google")

_most_tries = ContextVar("most_tries", default=TRIES)

P = ParamSpec("P")
T = TypeVar("T")


class NoSuchBucketError(FileNotFoundError):
    """A missing bucket, if the client's own error is the same as for a missing object."""

    error_code = "NoSuchBucket"

    def __init__(self, bucket: str) -> None:
        super().__init__(f"there is no bucket {bucket}")


def reading(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a reading call whose first argument is a URI: map its errors, and retry transient ones."""
    return _retried(call, read_error)


def writing(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a writing call whose first argument is a URI: map its errors, and retry transient ones."""
    return _retried(call, write_error)


def listing(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a call that lists objects and reads them: it is repeated if another process removed one in between.

    The objects that replaced the removed one are in the next listing.
    """

    @wraps(call)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(LISTINGS - 1):
            with suppress(errors.NotFound, errors.JournalChangedError):
                return call(*args, **kwargs)
        return call(*args, **kwargs)

    return wrapper


def read_error(uri: str, error: Exception) -> Exception:
    """Return the mapped error of a read; an error that is not the storage's is returned unchanged."""
    if not is_storages(error) or isinstance(error, errors.TrackError):
        return error
    uri = uris.shown(uri)
    if is_unusable(error):
        return errors.StorageUnusable(f"{uri}: {_reason(error)}")
    if _is_missing(error) or getattr(error, "errno", None) in _NOWHERE:
        return errors.NotFound(f"{uri}: not found ({type(error).__name__ if _is_missing(error) else _reason(error)})")
    if code_of(error) in ARCHIVED_CODES:  # before it counts as a 403, which other credentials would fix
        return errors.Archived(f"{uri}: archived by its storage; restore it first ({_reason(error)})")
    if is_denied(error):
        return errors.AccessDenied(f"{uri}: access denied ({_reason(error)})")
    return errors.FetchTimeout(f"{uri}: {_reason(error)}")


def write_error(uri: str, error: Exception) -> Exception:
    """Return the mapped error of a write; an error that is not the storage's is returned unchanged."""
    if type(error) is errors.StorageUnusable:  # the client could not be made
        return errors.OutUnusable(str(error))
    if type(error) is errors.FetchTimeout:
        return errors.WriteFailed(str(error))
    if not is_storages(error) or isinstance(error, errors.TrackError):
        return error
    uri = uris.shown(uri)
    kind = errors.OutUnusable if is_unusable(error) else errors.WriteFailed
    return kind(f"{uri}: could not be written ({_reason(error)})")


def code_of(error: BaseException) -> str | None:
    """Return the server's own code of an error, as NoSuchBucket, or Google's 401; None if there is none."""
    for raised in (error, error.__cause__):
        answer = getattr(raised, "response", None)
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code")) or None
        code = getattr(raised, "error_code", None) or (getattr(raised, "code", None) if _package(raised) == "gcsfs" else None)
        if code:
            return str(getattr(code, "value", code))
    return None


def _retried(call: Callable[P, T], map_error: Callable[[str, Exception], Exception]) -> Callable[P, T]:
    def once(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            mapped = map_error(str(args[0]), error)
            if mapped is error:
                raise
            raise mapped from error

    @wraps(call)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        if uris.is_local(str(args[0])):
            return once(*args, **kwargs)
        return patience()(once, *args, **kwargs)

    return wrapper


@contextmanager
def brief(tries: int = 2) -> Iterator[None]:
    """Limit the number of tries within the block, for a user who waits for the answer."""
    token = _most_tries.set(tries)
    try:
        yield
    finally:
        _most_tries.reset(token)


def patience() -> tenacity.Retrying:
    """Return a controller that retries transient errors, and raises the last one."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_transient),
        wait=tenacity.wait_random_exponential(PAUSE_S, LONGEST_PAUSE_S),
        stop=tenacity.stop_after_attempt(min(TRIES, _most_tries.get())) | tenacity.stop_after_delay(LONGEST_S),
        reraise=True,
    )


def _is_transient(error: BaseException) -> bool:
    cause = error.__cause__
    settled = cause is not None and (is_denied(cause) or _is_missing(cause))
    return isinstance(error, (errors.FetchTimeout, errors.WriteFailed)) and not settled


def is_storages(error: Exception) -> bool:
    """Return whether storage raised an error; those of object storage's clients are no OSErrors."""
    is_bad_request = type(error) is ValueError and str(error).startswith("Bad Request: ")  # as gcsfs raises some
    return isinstance(error, OSError) or _package(error) in _CLIENTS or is_bad_request


def _package(error: BaseException | None) -> str:
    return type(error).__module__.partition(".")[0]


def _is_missing(error: BaseException) -> bool:
    is_path = isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError))
    return is_path or (_package(error) == "azure" and getattr(error, "status_code", None) == 404)


def is_denied(error: BaseException) -> bool:
    """Return whether storage denied access: Azure reports that by a status, gcsfs by a text."""
    is_403 = _package(error) == "azure" and getattr(error, "status_code", None) == 403
    return isinstance(error, PermissionError) or is_403 or (isinstance(error, OSError) and str(error).startswith("Forbidden: "))


def is_unusable(error: Exception) -> bool:
    """Return whether an error concerns the whole storage, not one object."""
    if _is_transient_refresh(error.__cause__):
        return False
    kinds, code = " ".join(kind.__name__ for kind in type(error).__mro__), code_of(error)
    named = any(word in kinds for word in ("Credential", "Profile")) or (code is None and "ClientAuthenticationError" in kinds)
    return named or code in UNUSABLE_CODES or getattr(error, "errno", None) in _UNUSABLE_DISK


def _is_transient_refresh(error: BaseException | None) -> bool:
    """Return whether the network kept Google's credentials from being renewed; gcsfs reports a 401 for any such failure."""
    is_transport = error is not None and type(error.__cause__).__name__ == "TransportError"
    return _package(error) == "google" and (is_transport or bool(getattr(error, "retryable", False)))


def _reason(error: Exception) -> str:
    code, words = code_of(error), str(getattr(error, "strerror", None) or error or type(error).__name__)
    if _package(error) == "azure":
        words = words.partition("\n")[0]  # the lines after it are the answer, for programs
    return words if code is None or code in words else f"{code}: {words}"
