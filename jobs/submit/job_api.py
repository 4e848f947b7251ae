"""Jobs of a running Ray cluster, through Ray's own client.

A job is a command that the cluster runs on its head, with RAY_ADDRESS set to the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sep_batch.jobs.submit.client import NoAnswer, client, last_line, one_line, reach

OVER = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Job:
    """State of a job.

    Attributes:
        command: Command line of the job.
        status: PENDING, RUNNING, or one of `OVER`.
        exit_code: Exit code of the command; negative if a signal killed it, None if it has none.
        message: Ray's message about the job.
    """

    command: str
    status: str
    exit_code: int | None = None
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Return True if the job has ended."""
        return self.status in OVER


class JobApi:
    """The jobs of one cluster."""

    def __init__(self, url: str, source: str = "") -> None:
        """Connect to a cluster.

        Args:
            url: URL of the dashboard, as `url_of` returns it.
            source: Source of the URL, for messages, as `source_of` returns it.

        Raises:
            NoAnswer: Nothing answers at this URL.
            NotRunnableError: The server refuses the token, or is no Ray dashboard.
        """
        self.url = url
        reach(url, source)
        self._client = client(url)

    def start(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        """Run a command on the cluster, once.

        Args:
            name: ID of the job; the cluster takes each ID once.
            command: Command line for the shell.
            environment: Environment variables of the command and of its workers on the cluster.
        """
        with one_line(self.url):
            self._client.submit_job(entrypoint=command, submission_id=name, runtime_env={"env_vars": dict(environment)})

    def find(self, name: str) -> Job | None:
        """Return a submitted job, None if the cluster has none of that name."""
        with one_line(self.url):
            try:
                details = self._client.get_job_info(name)
            except RuntimeError as error:
                if "status code 404" in str(error):
                    return None
                raise
        if details.type != "SUBMISSION":
            return None
        return Job(details.entrypoint, details.status.value, details.driver_exit_code, details.message or "")

    def stop(self, name: str) -> bool:
        """Send SIGTERM to a job's command; return False if it does not run."""
        with one_line(self.url):
            return self._client.stop_job(name)

    def log(self, name: str) -> Iterator[str]:
        """Yield a job's stdout and stderr, from the beginning and as it is written, until the job has ended."""
        from aiohttp import ClientError

        loop, pieces = asyncio.new_event_loop(), self._client.tail_job_logs(name)
        try:
            while True:
                yield loop.run_until_complete(anext(pieces))
        except StopAsyncIteration:
            return
        except (ClientError, OSError, RuntimeError) as error:
            raise NoAnswer(f"{self.url}: {last_line(error)}") from error
        finally:
            loop.close()
