"""The jobs of a running Ray cluster, by Ray's own client, in our words.

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
    """A job as the cluster has it.

    Attributes:
        command: Command line that it runs.
        status: PENDING, RUNNING, or one of `OVER`.
        exit_code: Exit code of its command; negative where a signal killed it, None where it has none.
        message: Ray's message about it.
    """

    command: str
    status: str
    exit_code: int | None = None
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Tell whether nothing of it runs any more."""
        return self.status in OVER


class JobApi:
    """The jobs of one cluster."""

    def __init__(self, url: str, source: str = "") -> None:
        """Reach a cluster.

        Args:
            url: As `url_of` gives it.
            source: Where it was given, for messages, as `source_of` says it.

        Raises:
            NoAnswer: Nothing answers there.
            NotRunnableError: It refuses the token, or is no Ray dashboard.
        """
        self.url = url
        reach(url, source)
        self._client = client(url)

    def start(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        """Have the cluster run a command, once.

        Args:
            name: ID of the job; the cluster takes each ID once.
            command: For its shell.
            environment: Variables for the command and for all it has the cluster do.
        """
        with one_line(self.url):
            self._client.submit_job(entrypoint=command, submission_id=name, runtime_env={"env_vars": dict(environment)})

    def find(self, name: str) -> Job | None:
        """Return a submitted job, None where the cluster knows none of that name."""
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
        """Have a job's command take SIGTERM; tell whether there was one yet to take it."""
        with one_line(self.url):
            return self._client.stop_job(name)

    def log(self, name: str) -> Iterator[str]:
        """Yield what a job has written, stdout and stderr, from its beginning and as it comes, until it is over."""
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
