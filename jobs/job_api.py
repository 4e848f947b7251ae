"""The job API of a running Ray cluster: Ray's own client in our words, and its errors as one line each.

A job is a command that the cluster runs on its head, with RAY_ADDRESS set to the cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sep_batch.pipeline import failures, uris

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
REACH_S = 10.0  # for the first answer; Ray's client sets no bound
OVER = ("SUCCEEDED", "FAILED", "STOPPED")
_PORT = 8265  # of Ray's dashboard, where an address names none
_ADDRESS = re.compile(r"(?:(https?)://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?(/[A-Za-z0-9._/-]*)?")
_TOKEN = "in RAY_AUTH_TOKEN, or in a file that RAY_AUTH_TOKEN_PATH names"  # noqa: S105 (where it is, not what)


class NoAnswer(failures.NotRunnableError):
    """The cluster's head does not answer, or answers that it cannot now; it may at another time."""


@dataclass(frozen=True)
class Job:
    """A job as the cluster has it.

    Attributes:
        command: What it runs.
        status: PENDING, RUNNING, or one of `OVER`.
        exit_code: Of its command; negative where a signal killed it, None where it has none: not over, stopped, or never begun.
        message: What Ray says of it.
    """

    command: str
    status: str
    exit_code: int | None = None
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Tell whether nothing of it runs any more."""
        return self.status in OVER


def url_of(address: str | None) -> str:
    """Return the URL of a cluster's dashboard: as it is given, else as the environment names it, else on this machine.

    Raises:
        UsageError: It is no URL of a dashboard.
    """
    given = {"--address": address} | {name: os.environ.get(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    name, text = next(((name, text) for name, text in given.items() if text), ("--address", DEFAULT_ADDRESS))
    found = _ADDRESS.fullmatch(text)
    if not found or (name == "RAY_ADDRESS" and not found[1]):
        raise failures.UsageError(
            f"{name} {uris.shown(text)}: expected the URL of the cluster's dashboard, as --address http://head:8265"
        )
    scheme, host, port, path = found.groups()
    default = _PORT if (scheme or "http") == "http" else 443
    return f"{scheme or 'http'}://{host}:{port or default}{(path or '').rstrip('/')}"


class JobApi:
    """The jobs of one cluster."""

    def __init__(self, url: str) -> None:
        """Reach a cluster.

        Args:
            url: As `url_of` gives it.

        Raises:
            NoAnswer: Nothing answers there.
            NotRunnableError: It refuses the token, or is no Ray dashboard.
        """
        self.url = url
        _reach(url)
        self._client = _client(url)

    def start(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        """Have the cluster run a command, once.

        Args:
            name: Of the job; the cluster takes each name once.
            command: For its shell.
            environment: Variables for the command and for all it has the cluster do.
        """
        with _one_line(self.url):
            self._client.submit_job(entrypoint=command, submission_id=name, runtime_env={"env_vars": dict(environment)})

    def find(self, name: str) -> Job | None:
        """Return a submitted job, None where the cluster knows none of that name."""
        with _one_line(self.url):
            try:
                told = self._client.get_job_info(name)
            except RuntimeError as error:
                if "status code 404" in str(error):
                    return None
                raise
        if told.type != "SUBMISSION":
            return None
        return Job(told.entrypoint, told.status.value, told.driver_exit_code, told.message or "")

    def stop(self, name: str) -> bool:
        """Have a job's command take SIGTERM; tell whether there was one yet to take it."""
        with _one_line(self.url):
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
            raise NoAnswer(f"{self.url}: {_last_line(error)}") from error
        finally:
            loop.close()


def _reach(url: str) -> None:
    """Ask whether anything answers, for so long and no longer."""
    try:
        urllib.request.urlopen(f"{url}/api/version", timeout=REACH_S).close()  # noqa: S310 (http and https only)
    except urllib.error.HTTPError:
        return  # it does; what it has against us, the client says
    except (OSError, http.client.HTTPException) as error:
        why = "no HTTP" if isinstance(error, http.client.HTTPException) else getattr(error, "reason", error)
        raise NoAnswer(
            f"no answer from {url} ({why}); expected the dashboard of the cluster's head there, which needs ray[default]"
        ) from error


def _client(url: str) -> JobSubmissionClient:
    """Return Ray's client of a dashboard that answers."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # without it Ray sends none; read when it is imported
    os.environ["RAY_API_SERVER_ADDRESS"] = url  # Ray's client lets it, and RAY_ADDRESS, win over what it is given
    try:
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # it tells of each log that ends
        with _one_line(url):
            return JobSubmissionClient(url)
    except ImportError as error:
        raise failures.NotRunnableError(_not_installed(error)) from error
    except NoAnswer as error:
        if "ray[default]" in str(error.__cause__):
            raise failures.NotRunnableError(_not_installed(error.__cause__)) from error
        raise failures.NotRunnableError(f"{url} answers, but not as the dashboard of a Ray cluster ({error})") from error


def _not_installed(error: BaseException | None) -> str:
    return f"Ray's job client is not whole here ({_last_line(error)}): pip install 'sep-batch[cluster]'"


@contextlib.contextmanager
def _one_line(url: str) -> Iterator[None]:
    """Turn what Ray's client raises into one line of ours."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        if "Authentication failed" in str(error):
            told = f"does not take this token; expected the one that the cluster was started with, {_TOKEN}"
        else:
            told = f"expects a token, found none; expected it {_TOKEN}"
        raise failures.NotRunnableError(f"{url} {told}") from error
    except (OSError, RuntimeError, LookupError, TypeError) as error:  # requests' errors are OSErrors
        raise NoAnswer(f"{url}: {_last_line(error)}") from error


def _last_line(error: BaseException | None) -> str:
    """Return what an error is about; of a traceback that the cluster sent, its end."""
    lines = [line.strip(" .") for line in str(error).splitlines() if line.strip(" .")]
    return uris.printable(lines[-1]) if lines else type(error).__name__
