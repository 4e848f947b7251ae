"""Following a job on a cluster: its log as it is written, each character once, even if the connection breaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from sep_batch.jobs.setup import stop
from sep_batch.jobs.submit.client import NoAnswer
from sep_batch.jobs.submit.job_api import Job, JobApi
from sep_batch.pipeline import errors

QUIET_S = 10.0  # silence of the log after which the job's state is checked: a dead node does not close its connection
AGAIN_S = 1.0
PATIENCE_S = 300.0  # time limit for a head that does not answer
BROKEN = 3  # broken reads after which the log of an ended job is given up

Write = Callable[[str], object]


class Log:
    """Output of a job, which is written once although it is read from its beginning after every break."""

    def __init__(self, write: Write) -> None:
        """Write new output with this function."""
        self._write = write
        self._written = self._at = 0  # characters

    def begin(self) -> None:
        """Start to read from the beginning."""
        self._at = 0

    def take(self, piece: str) -> None:
        """Take the next piece, and write the part of it that is new."""
        new = piece[max(0, self._written - self._at) :]
        self._at += len(piece)
        if new:
            self._write(new)
            self._written = self._at


def follow(api: JobApi, name: str, write: Write) -> Job:
    """Write a job's log as it comes, and return the job when it has ended.

    Args:
        api: Job API of the cluster.
        name: ID of the job.
        write: Called with each new piece of the log.

    Raises:
        NotRunnableError: The cluster has no such job, or did not answer for `PATIENCE_S`.
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
    """Follow the log; return True at its end, or when the job has ended and no more comes, False if the connection breaks."""
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
    """Return a job; retry for `PATIENCE_S` while the cluster does not answer.

    Raises:
        NotRunnableError: The cluster has no such job, or did not answer for `PATIENCE_S`.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(NoAnswer),
        stop=stop_after_delay(PATIENCE_S),
        wait=wait_fixed(AGAIN_S),
        before_sleep=_log_once,
        reraise=True,
    )
    if (job := retrying(api.find, name)) is None:
        raise errors.NotRunnableError(f"no job {name} on {api.url}; a head that was restarted has lost its earlier jobs")
    return job


def _log_once(state: RetryCallState) -> None:
    if state.attempt_number == 1 and state.outcome:
        logging.getLogger(__name__).warning("%s; trying again for %d s", state.outcome.exception(), PATIENCE_S)
