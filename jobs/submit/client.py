"""Ray's client of a cluster's job API: where the cluster is, whether it answers, and what goes wrong as one line each.

Of Ray it needs no more than the client: its extra `default` is for the cluster's nodes.
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
REACH_S = 10.0  # time limit of a connection and of the first answer; Ray's client sets none
REACH_LIMIT_S = 20.0  # of both, and of the look-up of the host's name
_PORT = 8265  # of Ray's dashboard, where an address names none
_ADDRESS = re.compile(r"(?:(https?)://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?::([0-9]{1,5}))?(/[A-Za-z0-9._/-]*)?")
_TOKEN = "in RAY_AUTH_TOKEN, or in a file that RAY_AUTH_TOKEN_PATH names"  # noqa: S105 (where it is, not what)


class NoAnswer(errors.NotRunnableError):
    """The cluster's head does not answer, or answers that it cannot now; it may at another time."""


def url_of(address: str | None) -> str:
    """Return the URL of a cluster's dashboard: as it is given, else as the environment names it, else on this machine.

    Raises:
        UsageError: It is no URL of a dashboard.
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
    """Return where the URL of a cluster's dashboard was given, for a message."""
    name, _ = _named(address)
    return f"from {name}" if address or name != "--address" else "the default; --address http://HOST:8265 names another"


def _named(address: str | None) -> tuple[str, str]:
    """Return the address that wins, and its name."""
    given = {"--address": address} | {name: os.environ.get(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    return next(((name, text) for name, text in given.items() if text), ("--address", DEFAULT_ADDRESS))


def reach(url: str, source: str = "") -> None:
    """Ask whether anything answers, for a limited time.

    Args:
        url: URL of a dashboard.
        source: Where it was given, for messages.

    Raises:
        NoAnswer: Nothing answers, or something that is no HTTP server.
    """
    try:
        within(REACH_LIMIT_S, lambda: urllib.request.urlopen(f"{url}/api/version", timeout=REACH_S).close())  # noqa: S310 (http, https)
    except urllib.error.HTTPError:
        return  # it does; what it has against us, the client says
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
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # without it Ray sends none; read when it is imported
    os.environ["RAY_API_SERVER_ADDRESS"] = url  # Ray's client lets it, and RAY_ADDRESS, win over what it is given
    try:
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.ERROR)  # it tells of each log that ends
        with one_line(url):
            return JobSubmissionClient(url)
    except ImportError as error:
        raise errors.NotRunnableError(_not_installed(error)) from error
    except NoAnswer as error:
        if "ray[default]" in str(error.__cause__):
            raise errors.NotRunnableError(_not_installed(error.__cause__)) from error
        raise errors.NotRunnableError(f"{url} answers, but not as the dashboard of a Ray cluster ({error})") from error


def _not_installed(error: BaseException | None) -> str:
    return f"Ray's job client is not whole here ({last_line(error)}); {extras.to_install('cluster')}"


@contextlib.contextmanager
def one_line(url: str) -> Iterator[None]:
    """Turn what Ray's client raises into one line of ours."""
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
    """Return what an error is about; of a traceback that the cluster sent, its end."""
    lines = [line.strip(" .") for line in str(error).splitlines() if line.strip(" .")]
    return uris.printable(lines[-1]) if lines else type(error).__name__
