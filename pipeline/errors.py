"""The tree of errors.

    TrackError            fails one track: becomes its failed row; the run goes on
      manifest BadRow
      fetch    NotFound, AccessDenied*, Archived, FetchTimeout*, BadUri, StorageUnusable*
      decode   UnsupportedFormat, DecodeError, DecodeCrash, EmptyAudio, TooLong, NonfiniteAudio, Damaged, TrackTimeout*
      separate NonfiniteStems, OutOfMemory*, WorkerCrash
      write    WriteFailed*, OutUnusable*
    RunError              ends the run with an exit code, marks no track as failed
      UsageError 2, NotRunnableError 5, ManifestError 5, JournalChangedError 5, SettingsDifferError 6, LeaseHeldError 75

A CUDA error is none of these: it ends its worker (stages/gpu_faults.py).

`*` is transient: the same track may succeed at another time, so `--retry transient` retries it. Any other exception becomes a row
of class `bug`. jobs/run/breaker.py decides, by the tracks beside it, if a storage error is one track's or the whole storage's.
"""

from __future__ import annotations

import traceback

MESSAGE_CHARS = 500
SOME_FAILED, OVER_MAX_FAILURES, STOPPED = 3, 4, 7  # exit codes of runs that came to an end
CHECK_FAILED = 8  # exit code of a check that found a problem
BUG = "bug"


class TrackError(Exception):
    """An error that fails one track: its class, its stage, and whether a retry may help."""

    error_class = ""
    stage = ""
    transient = False


class BadRow(TrackError):
    """An invalid row of the manifest: no URI, or an invalid id or number."""

    error_class, stage = "bad_row", "manifest"


class NotFound(TrackError):
    """There is no object at the URI."""

    error_class, stage = "not_found", "fetch"


class AccessDenied(TrackError):
    """Storage denied access to this object; others may be readable."""

    error_class, stage, transient = "access_denied", "fetch", True


class Archived(TrackError):
    """The object is in archive storage, such as S3's Glacier, and must be restored before it can be read."""

    error_class, stage = "archived", "fetch"


class FetchTimeout(TrackError):
    """Storage did not answer, or the connection broke."""

    error_class, stage, transient = "fetch_timeout", "fetch", True


class BadUri(TrackError):
    """The form of the URI is not supported."""

    error_class, stage = "bad_uri", "fetch"


class StorageUnusable(TrackError):
    """The whole storage is unusable: wrong credentials, no such bucket, a full disk."""

    error_class, stage, transient = "storage_unusable", "fetch", True


class OutUnusable(StorageUnusable):
    """OUT's storage is unusable: no track of the run can be written."""

    stage = "write"


class UnsupportedFormat(TrackError):
    """The container or codec is not supported."""

    error_class, stage = "unsupported_format", "decode"


class DecodeError(TrackError):
    """The file looks like audio, but cannot be decoded."""

    error_class, stage = "decode_error", "decode"


class DecodeCrash(TrackError):
    """The decoder's process died on the file: a native crash, no answer, or too much memory or time."""

    error_class, stage = "decode_crash", "decode"


class EmptyAudio(TrackError):
    """The file has no samples, or none between offset and duration."""

    error_class, stage = "empty_audio", "decode"


class TooLong(TrackError):
    """The track is longer than 24 hours, or its file larger than 256 GiB."""

    error_class, stage = "too_long", "decode"


class NonfiniteAudio(TrackError):
    """No sample is a number: all are NaN, Inf or beyond any full scale."""

    error_class, stage = "nonfinite", "decode"


class Damaged(TrackError):
    """Too little of a damaged file was decoded, by the rules of audio/damage.py, or less than all with `--damaged fail`."""

    error_class, stage = "damaged", "decode"


class TrackTimeout(TrackError):
    """One part took longer than the time limit in one stage."""

    error_class, stage, transient = "track_timeout", "decode", True


class NonfiniteStems(NonfiniteAudio):
    """The U-Nets gave values that are no numbers, in float32 too."""

    stage = "separate"


class WrongSum(TrackError):
    """The stems do not add up to the mix below the model's range: the device computed wrong values."""

    error_class, stage, transient = "wrong_sum", "separate", True


class OutOfMemory(TrackError):
    """The device has too little memory even for the smallest batch."""

    error_class, stage, transient = "out_of_memory", "separate", True


class WorkerCrash(TrackError):
    """The worker's process died on each try; the stage is unknown."""

    error_class, stage = "worker_crash", "separate"


class WriteFailed(TrackError):
    """A stem could not be written to storage."""

    error_class, stage, transient = "write_error", "write", True


class RunError(Exception):
    """An error that ends the run, with one line and an exit code."""

    exit_code = 1


class BugError(RunError):
    """A defect in this program, with its traceback."""


class UsageError(RunError):
    """A wrong argument."""

    exit_code = 2


class NotRunnableError(RunError):
    """Something that the run needs is missing or unusable: manifest, storage, weights, GPUs."""

    exit_code = 5


class JournalChangedError(NotRunnableError):
    """Files of the journal were merged and removed while they were read."""


class ManifestError(NotRunnableError):
    """A manifest that is refused; the message names the row or file and its content."""


class SettingsDifferError(RunError):
    """OUT holds stems made with other settings."""

    exit_code = 6


class DeadlinePassedError(RunError):
    """The run was started after its deadline."""

    exit_code = STOPPED


class LeaseHeldError(RunError):
    """Another run works on OUT, or has taken it over."""

    exit_code = 75


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of a run that an exception ended."""
    if isinstance(error, RunError):
        return error.exit_code
    if isinstance(error, TrackError):  # of OUT's storage; it is reported as a NotRunnableError
        return NotRunnableError.exit_code
    return STOPPED if isinstance(error, KeyboardInterrupt) else RunError.exit_code


def describe(error: BaseException, stage: str) -> dict[str, object]:
    """Return a failed row's columns for an exception that a stage caught.

    Args:
        error: The exception; anything but a TrackError or a MemoryError is a bug, and its traceback is recorded.
        stage: Stage that caught it, recorded for a bug and for a MemoryError.
    """
    if isinstance(error, MemoryError):
        error_stage, name, transient, text = stage, OutOfMemory.error_class, True, "the machine ran out of memory"
    elif isinstance(error, TrackError):
        error_stage, name, transient, text = error.stage, error.error_class, error.transient, one_line(str(error))
    else:
        error_stage, name, transient = stage, BUG, False
        text = "".join(traceback.format_exception(error))[-20 * MESSAGE_CHARS :]
    return {"status": "failed", "error_class": name, "error_stage": error_stage, "error": text, "transient": transient}


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the error's type if it has no text."""
    lines = _lines(error)
    return lines[0] if lines else type(error).__name__


def last_line(error: BaseException | str) -> str:
    """Return the last line of an error's text, which says what happened if the text is a traceback; or the error's type."""
    lines = _lines(error)
    return lines[-1] if lines else type(error).__name__


def _lines(error: BaseException | str) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()]


def one_line(message: str) -> str:
    """Return a message as a failed row holds it: printable, on one line, at most `MESSAGE_CHARS` long."""
    printable = "".join(char if char.isprintable() else " " for char in message)
    return " ".join(printable.split())[:MESSAGE_CHARS]
