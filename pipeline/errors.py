"""The tree of errors.

    TrackError            a track's own: becomes its failed row; the run goes on
      manifest BadRow
      fetch    NotFound, AccessDenied*, Archived, FetchTimeout*, BadUri, StorageUnusable*
      decode   UnsupportedFormat, DecodeError, DecodeCrash, EmptyAudio, TooLong, NonfiniteAudio, Damaged, TrackTimeout*
      separate OutOfMemory*, WorkerCrash
      write    WriteFailed*, OutUnusable*
    RunError              the run's own: ends it with an exit code, marks no track
      UsageError 2, NotRunnableError 5, ManifestError 5, JournalChangedError 5, SettingsDifferError 6, LeaseHeldError 75

`*` is transient: the same track may succeed at another time, so `--retry transient` tries it again. One more class is no
exception of ours: `bug`, anything that is none of these. Whether a storage's failure is the track's own or the whole
storage's is judged by jobs/run/breaker.py, which looks at the tracks beside it.
"""

from __future__ import annotations

import traceback

MESSAGE_CHARS = 500
SOME_FAILED, OVER_MAX_FAILURES, STOPPED = 3, 4, 7  # exit codes of runs that came to an end
CHECK_FAILED = 8  # exit code of a check that found something
BUG = "bug"


class TrackError(Exception):
    """What a failed row says: class, stage, and whether another try may help."""

    error_class = ""
    stage = ""
    transient = False


class BadRow(TrackError):
    """A row of the manifest that cannot be meant: no URI, an id or a number that is none."""

    error_class, stage = "bad_row", "manifest"


class NotFound(TrackError):
    """Nothing lies at the URI."""

    error_class, stage = "not_found", "fetch"


class AccessDenied(TrackError):
    """Storage refused this object; others may be readable."""

    error_class, stage, transient = "access_denied", "fetch", True


class Archived(TrackError):
    """Storage has the object in an archive, as S3's Glacier, from which it has to be restored before it can be read."""

    error_class, stage = "archived", "fetch"


class FetchTimeout(TrackError):
    """Storage did not answer, or broke off."""

    error_class, stage, transient = "fetch_timeout", "fetch", True


class BadUri(TrackError):
    """A URI of a form that is not read."""

    error_class, stage = "bad_uri", "fetch"


class StorageUnusable(TrackError):
    """Not the object's fault: wrong credentials, no such bucket, a full disk."""

    error_class, stage, transient = "storage_unusable", "fetch", True


class OutUnusable(StorageUnusable):
    """The same of OUT's storage: no track of the run can be written."""

    stage = "write"


class UnsupportedFormat(TrackError):
    """Not a container or codec that is read."""

    error_class, stage = "unsupported_format", "decode"


class DecodeError(TrackError):
    """Says it is audio, and cannot be decoded."""

    error_class, stage = "decode_error", "decode"


class DecodeCrash(TrackError):
    """The decoder's process died of it: a native crash, no answer, or too much memory or time."""

    error_class, stage = "decode_crash", "decode"


class EmptyAudio(TrackError):
    """Decodes to no samples, or to none between offset and duration."""

    error_class, stage = "empty_audio", "decode"


class TooLong(TrackError):
    """Longer than one part may be."""

    error_class, stage = "too_long", "decode"


class NonfiniteAudio(TrackError):
    """Holds nothing but NaN and Inf."""

    error_class, stage = "nonfinite", "decode"


class Damaged(TrackError):
    """Of a damaged file came too little, by the rules of audio/damage.py, or less than all where only all will do."""

    error_class, stage = "damaged", "decode"


class TrackTimeout(TrackError):
    """One part took longer than the time limit."""

    error_class, stage, transient = "track_timeout", "decode", True


class OutOfMemory(TrackError):
    """The device has no room even for the smallest batch."""

    error_class, stage, transient = "out_of_memory", "separate", True


class WorkerCrash(TrackError):
    """Its process died, each time it was tried; in which stage is not known."""

    error_class, stage = "worker_crash", "separate"


class WriteFailed(TrackError):
    """Storage did not take a stem."""

    error_class, stage, transient = "write_error", "write", True


class RunError(Exception):
    """What ends a run, as one line and an exit code."""

    exit_code = 1


class BugError(RunError):
    """A defect of ours, with its traceback."""


class UsageError(RunError):
    """A wrong argument."""

    exit_code = 2


class NotRunnableError(RunError):
    """Something the run needs is missing: manifest, storage, weights, GPUs."""

    exit_code = 5


class JournalChangedError(NotRunnableError):
    """Files of the journal were merged and removed while they were read."""


class ManifestError(NotRunnableError):
    """A manifest that is refused: says what was found where."""


class SettingsDifferError(RunError):
    """OUT holds stems made with other settings."""

    exit_code = 6


class DeadlinePassedError(RunError):
    """The run was begun after its deadline."""

    exit_code = STOPPED


class LeaseHeldError(RunError):
    """Another run works on OUT, or has taken it over."""

    exit_code = 75


def describe(error: BaseException, stage: str) -> dict[str, object]:
    """Return a failed row's columns for what a stage caught.

    Args:
        error: The exception that was caught; anything that is no TrackError is a bug, and carries its traceback.
        stage: Where it was caught, for a bug.
    """
    if isinstance(error, MemoryError):
        error_stage, name, transient, text = stage, OutOfMemory.error_class, True, "the machine has no memory left for it"
    elif isinstance(error, TrackError):
        error_stage, name, transient, text = error.stage, error.error_class, error.transient, one_line(str(error))
    else:
        error_stage, name, transient = stage, BUG, False
        text = "".join(traceback.format_exception(error))[-20 * MESSAGE_CHARS :]
    return {"status": "failed", "error_class": name, "error_stage": error_stage, "error": text, "transient": transient}


def one_line(message: str) -> str:
    """Return a message as a failed row has it: printable, on one line, not endless."""
    printable = "".join(char if char.isprintable() else " " for char in message)
    return " ".join(printable.split())[:MESSAGE_CHARS]
