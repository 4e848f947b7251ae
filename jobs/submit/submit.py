"""`submit`: run a sep-batch command as a job on a running cluster, follow it to its end, and return its exit code.

from sep_batch.jobs.submit.job_api import JobApi
from sep_batch.jobs.submit.submit import follow_job, new_name, start_job
api, name = JobApi("http://head:8265"), new_name()
start_job(api, name, ["run", "s3://bucket/songs.parquet"], {})
exit_code = follow_job(api, name, print)
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from sep_batch.jobs.setup.stop import DRAIN_S, Stop
from sep_batch.jobs.submit.client import NoAnswer
from sep_batch.jobs.submit.follow import AGAIN_S, Write, follow, patiently
from sep_batch.jobs.submit.job_api import Job, JobApi
from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris

STOP_S = 600  # from SIGTERM to SIGKILL: time to finish tracks in flight, and to publish the index of millions of tracks
TRIES = 4  # attempts to submit; the pauses between them double
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # a shell's exit codes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
logger = logging.getLogger(__name__)


def new_name() -> str:
    """Return a new, unique job name."""
    return f"sep-batch-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def check_name(flag: str, name: str) -> str:
    """Return a job name if it is valid.

    Raises:
        UsageError: The name is invalid.
    """
    if not _NAME.fullmatch(name):
        raise errors.UsageError(
            f"{flag} {uris.printable(name)}: expected at most 100 of A-Z a-z 0-9 . _ -, first a letter or digit"
        )
    return name


def carried(names: Iterable[str]) -> dict[str, str]:
    """Return the variables of this environment that are passed on to a job.

    Raises:
        UsageError: A variable is not set, or is no name; the message leaves out anything that may be a value.
    """
    for name in names:
        if not _VARIABLE.fullmatch(name):
            shown = uris.printable(name.partition("=")[0])
            raise errors.UsageError(f"--env {shown}: expected the name of a variable; its value is taken from the environment")
        if name not in os.environ:
            raise errors.UsageError(f"--env {name}: not set in this environment")
    return {name: os.environ[name] for name in names}


def start_job(api: JobApi, name: str, words: Sequence[str], environment: dict[str, str]) -> None:
    """Run a sep-batch command on the cluster, once, even if the answer to an attempt is lost.

    Args:
        api: Job API of the cluster.
        name: ID of the job; submitting it again starts nothing.
        words: Command with its flags, without `sep-batch`.
        environment: Environment variables of the job.

    Raises:
        UsageError: The cluster has a job of that name with another command.
        NoAnswer: The cluster did not accept the job in `TRIES` attempts.
    """
    command = f"exec {shlex.join(['sep-batch', *words])}"  # exec: signals and exit code are the command's own
    for attempt in range(TRIES):
        try:
            if (job := api.find(name)) is None:
                api.start(name, command, {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)} | environment)
                return
        except NoAnswer:
            if attempt + 1 == TRIES:
                raise
            time.sleep(AGAIN_S * 2**attempt)
            continue
        if job.command != command:
            theirs = uris.printable(job.command.removeprefix("exec "))
            raise errors.UsageError(f"--submission-id {name}: the cluster has a job of that name with another command, {theirs}")
        if not attempt:
            logger.warning("job %s exists already (%s); nothing is started", name, job.status)
        return


def follow_job(api: JobApi, name: str, write: Write) -> int:
    """Write a job's log as it comes, and return its exit code.

    Raises:
        NotRunnableError: There is no such job, Ray could not run its command, or the cluster does not answer any more.
    """
    return _exit_code(name, follow(api, name, write))


def _exit_code(name: str, job: Job) -> int:
    if job.status == "STOPPED":
        logger.warning("job %s was stopped; submit the same command again to resume", name)
        return errors.STOPPED
    code = job.exit_code
    if code is None:
        raise errors.NotRunnableError(f"job {name}: Ray could not run it: {uris.printable(job.message)}")
    if code in (NOT_EXECUTABLE, NOT_FOUND):
        raise errors.NotRunnableError(f"job {name}: no sep-batch on the PATH of the cluster's head; install it on every node")
    if code < 0:
        logger.error("job %s was killed by %s", name, signal.Signals(-code).name)
        return 128 - code
    return code


def stop_job(api: JobApi, name: str, *, wait: bool) -> int:
    """Stop a job with SIGTERM.

    Args:
        api: Job API of the cluster.
        name: ID of the job.
        wait: Wait until the job has ended.

    Returns:
        0: the stop was requested, or the job had ended before.

    Raises:
        NotRunnableError: There is no such job, or the cluster does not answer.
    """
    is_requested, job = False, patiently(api, name)
    while not job.is_over:
        if not is_requested and (is_requested := api.stop(name)):
            logger.info("stopping job %s: tracks in flight have %d s to finish, then the index is published", name, DRAIN_S)
        if is_requested and not wait:
            return 0
        time.sleep(AGAIN_S)
        job = patiently(api, name)
    logger.info("job %s is over: %s", name, job.status)
    return 0


def attend(api: JobApi, name: str, watch: Callable[[], int]) -> int:
    """Watch a job and return its exit code. A signal ends only the watching; the job keeps running.

    Args:
        api: Job API of the cluster.
        name: ID of the job.
        watch: Function that watches the job and returns its exit code.
    """
    again = f"sep-batch submit --address {api.url}"
    try:
        with Stop().on_signals():
            return watch()
    except KeyboardInterrupt:
        logger.warning("interrupted; job %s keeps running", name)
        logger.warning("follow it: %s --follow %s", again, name)
        logger.warning("stop it: %s --stop %s", again, name)
        return errors.STOPPED
