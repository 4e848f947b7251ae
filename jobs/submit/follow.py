"""Following a job on a cluster: its log as it comes, each character once, however often the connection breaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from sep_batch.jobs.setup import stop
from sep_batch.jobs.submit.client import NoAnswer
from sep_batch.jobs.submit.job_api import Job, JobApi
from sep_batch.pipeline import errors

QUIET_S = 10.0  # without a word, after which the job is asked after: a node that is gone closes no connection
AGAIN_S = 1.0
PATIENCE_S = 300.0  # for a head that does not answer
BROKEN = 3  # times that the log of a job that is over may break off

Write = Callable[[str], object]


class Log:
    """What a job has written, from its beginning each time it is read, and written here once."""

    def __init__(self, write: Write) -> None:
        """Take where it goes."""
        self._write = write
        self._written = self._at = 0  # characters

    def begin(self) -> None:
        """Begin to read anew."""
        self._at = 0

    def take(self, piece: str) -> None:
        """Write of what was read what is new."""
        new = piece[max(0, self._written - self._at) :]
        self._at += len(piece)
        if new:
            self._write(new)
            self._written = self._at


def follow(api: JobApi, name: str, write: Write) -> Job:
    """Write a job's log as it comes, and return the job once it is over.

    Args:
        api: Job API of its cluster.
        name: ID of the job.
        write: Takes each piece of the log.

    Raises:
        NotRunnableError: The cluster has no such job, or not any more; or did not answer for `PATIENCE_S`.
    """
    log, broken = Log(write), 0
    while True:
        is_whole = _read(api, name, log)
        broken = 0 if is_whole else broken + 1
        job = patiently(api, name)
        if job.is_over and (is_whole or broken >= BROKEN):
            return job
        time.sleep(AGAIN_S)


def _read(api: JobApi, name: str, log: Log) -> bool:
    """Follow the log to its end; tell whether it was reached, or the job is over and nothing more comes."""
    log.begin()
    quiet_s, was_over = 0.0, False
    try:
        for piece in stop.ticking(api.log(name)):
            if piece is not None:
                log.take(piece)
                quiet_s = 0.0
                continue
            quiet_s += stop.TICK_S
            if quiet_s >= QUIET_S:
                if was_over:
                    return True
                quiet_s, was_over = 0.0, patiently(api, name).is_over
    except NoAnswer:
        return False
    return True


def patiently(api: JobApi, name: str) -> Job:
    """Return a job of a cluster that may not answer for a while.

    Raises:
        NotRunnableError: The cluster has no such job, or did not answer for `PATIENCE_S`.
    """
    asking = Retrying(
        retry=retry_if_exception_type(NoAnswer),
        stop=stop_after_delay(PATIENCE_S),
        wait=wait_fixed(AGAIN_S),
        before_sleep=_say_once,
        reraise=True,
    )
    if (job := asking(api.find, name)) is None:
        raise errors.NotRunnableError(f"no job {name} on {api.url}; a head that was started anew knows no earlier ones")
    return job


def _say_once(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome:
        logging.getLogger(__name__).warning("%s; trying again for %d s", state.outcome.exception(), PATIENCE_S)
