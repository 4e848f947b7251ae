"""Ray's client of a cluster's job API: the cluster's address, a test of its answer, and errors of one line.

Only Ray's client is needed here; Ray's extra `default` is for the nodes of the cluster.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sep_batch.jobs.setup.address import reason, within
from sep_batch.pipeline import errors, extras
from sep_batch.pipeline.storage import uris

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
REACH_S = 10.0  # time limit for the connection and for the first answer; Ray's client sets none
REACH_LIMIT_S = 20.0  # time limit for both and the DNS look-up
_PORT = 8265  # default port of Ray's dashboard
_ADDRESS = re.compile(r"(?:(https?)://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?(/[A-Za-z0-9._/-]*)?")
_TOKEN = "in RAY_AUTH_TOKEN, or in a file that RAY_AUTH_TOKEN_PATH names"  # noqa: S105 (no secret)


class NoAnswer(errors.NotRunnableError):
    """The cluster's head does not answer, or reports a temporary error; a retry may succeed."""


def url_of(address: str | None) -> str:
    """Return the URL of a cluster's dashboard: from --address, else from the environment, else this machine's.

    Raises:
        UsageError: The address is not the URL of a dashboard.
    """
    name, text = _named(address)
    match = _ADDRESS.fullmatch(text)
    if not match or (name == "RAY_ADDRESS" and not match[1]):
        raise errors.UsageError(
            f"{name} {uris.shown(text)}: expected the URL of the cluster's dashboard, as --address http://head:8265"
        )
    scheme, host, port, path = match.groups()
    default = _PORT if (scheme or "http") == "http" else 443
    return f"{scheme or 'http'}://{host}:{port or default}{(path or '').rstrip('/')}"


def source_of(address: str | None) -> str:
    """Return the source of the URL of a cluster's dashboard, for messages."""
    name, _ = _named(address)
    return f"from {name}" if address or name != "--address" else "the default; --address http://HOST:8265 names another"


def _named(address: str | None) -> tuple[str, str]:
    """Return the name of the flag or variable that takes precedence, and its address."""
    addresses = {"--address": address} | {name: os.environ.get(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    return next(((name, text) for name, text in addresses.items() if text), ("--address", DEFAULT_ADDRESS))


def reach(url: str, source: str = "") -> None:
    """Test for at most `REACH_LIMIT_S` that an HTTP server answers.

    Args:
        url: URL of a dashboard.
        source: Source of the URL, for messages, as `source_of` returns it.

    Raises:
        NoAnswer: Nothing answers, or not by HTTP.
    """
    try:
        within(REACH_LIMIT_S, lambda: urllib.request.urlopen(f"{url}/api/version", timeout=REACH_S).close())  # noqa: S310 (http, https)
    except urllib.error.HTTPError:
        return  # it answers; Ray's client reports the error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        why = "no HTTP" if isinstance(error, http.client.HTTPException) else reason(cause, REACH_S)
        shown = f"{url} ({source})" if source else url
        raise NoAnswer(
            f"no dashboard at {shown}: {why}; expected the head's, port {_PORT} by default, which needs ray[default]"
        ) from error


def client(url: str) -> JobSubmissionClient:
    """Return Ray's client of a dashboard that answers."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # else Ray sends no token; Ray reads it at import
    os.environ["RAY_API_SERVER_ADDRESS"] = url  # for Ray's client, it and RAY_ADDRESS take precedence over the argument
    try:
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # it logs the end of every log stream
        with one_line(url):
            return JobSubmissionClient(url)
    except ImportError as error:
        raise errors.NotRunnableError(_not_installed(error)) from error
    except NoAnswer as error:
        if "ray[default]" in str(error.__cause__):
            raise errors.NotRunnableError(_not_installed(error.__cause__)) from error
        raise errors.NotRunnableError(f"{url} answers, but not as the dashboard of a Ray cluster ({error})") from error


def _not_installed(error: BaseException | None) -> str:
    return f"Ray's job client is incomplete on this machine ({last_line(error)}); {extras.to_install('cluster')}"


@contextlib.contextmanager
def one_line(url: str) -> Iterator[None]:
    """Turn the exceptions of Ray's client into errors of one line."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        if "Authentication failed" in str(error):
            problem = f"does not take this token; expected the one that the cluster was started with, {_TOKEN}"
        else:
            problem = f"expects a token, found none; expected it {_TOKEN}"
        raise errors.NotRunnableError(f"{url} {problem}") from error
    except (OSError, RuntimeError, LookupError, TypeError) as error:  # requests' errors are OSErrors
        is_gone = type(error).__name__ == "ConnectionError"  # requests' own, and Python's
        raise NoAnswer(f"{url} does not answer" if is_gone else f"{url}: {last_line(error)}") from error


def last_line(error: BaseException | None) -> str:
    """Return the last line of an error's text, which may be a traceback from the cluster."""
    return uris.printable(errors.last_line(str(error or "no reason given").strip(" .\n")))
