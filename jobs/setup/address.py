"""The address of a Ray cluster to join: its source, its form, and a check that the head's port answers.

Each step has a time limit. Ray itself retries an address without a cluster for a quarter of an hour.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sep_batch.pipeline import errors
from sep_batch.pipeline.storage import uris

RESOLVE_S = 5.0  # time limit of a host name's look-up
CONNECT_S, CONNECT_ALL_S = 3.0, 9.0  # time limits of a connection to one address of a host, and to all of them in turn
ANSWER_S = 10.0  # time limit of an answer's first bytes
HEAD_PORT, DASHBOARD_PORT = 6379, 8265  # Ray's defaults

_HOST_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>[0-9]{1,5})")
_URL = re.compile(r"(?P<scheme>[A-Za-z]+)://(?:[^@/]*@)?(?P<host>\[[^\]]*\]|[^:/?]*)")
_SETTINGS = 4  # type of the frame that each side of HTTP/2 begins with
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0))  # RFC 9113, 3.4; without settings
_FRAME_HEADER_BYTES = 9
T = TypeVar("T")


class NoCluster(errors.NotRunnableError):
    """An address where no cluster can be joined.

    Attributes:
        problem: Description of what answered there instead.
        advice: Next step for the user.
    """

    def __init__(self, problem: str, advice: str) -> None:
        """Make one message of both."""
        super().__init__(f"{problem}; {advice}")
        self.problem, self.advice = problem, advice


@dataclass(frozen=True)
class Address:
    """The address of a cluster's head.

    Attributes:
        text: HOST:PORT; or auto, the cluster that Ray finds on this machine.
        source: Source of the address: --address, RAY_ADDRESS, or a file of Ray's.
        otherwise: Advice for a run on this machine alone.
    """

    text: str
    source: str
    otherwise: str

    def __str__(self) -> str:
        """Return the address and its source, for a message."""
        return f"{uris.printable(self.text)} (from {self.source})"

    @property
    def host_port(self) -> tuple[str, int]:
        """Host and port of an address that is not auto."""
        parts = _HOST_PORT.fullmatch(self.text)
        if parts is None:
            raise ValueError(self.text)
        return parts["v6"] or parts["host"], int(parts["port"])


def address_of(flag: str | None) -> Address | None:
    """Return the address of the cluster to join; None if Ray starts on this machine.

    Args:
        flag: Value of --address. It wins over RAY_ADDRESS, except for auto, as in Ray.

    Raises:
        UsageError: The text cannot be the address of a head.
    """
    variable = os.environ.get("RAY_ADDRESS")
    is_flag = bool(flag) and not (flag == "auto" and variable)
    text, source = (flag, "--address") if is_flag else (variable, "RAY_ADDRESS")
    if not text or text == "local":
        return None
    check(text, source)
    change = "omit --address" if is_flag else "unset RAY_ADDRESS"
    return Address(text, source, f"{change} to run on this machine alone")


def ray_folder() -> str:
    """Return the folder in which Ray keeps its sessions, and the file that names the last cluster."""
    return os.path.join(os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp")), "ray")  # noqa: S108 (Ray's, not ours)


def last_cluster() -> Address | None:
    """Return the address that Ray's file of the last `ray start` on this machine names; None without one."""
    file = Path(ray_folder(), "ray_current_cluster")
    text = file.read_text(errors="replace").strip() if file.is_file() else ""
    return Address(text, str(file), f"delete {file} to run on this machine alone") if _HOST_PORT.fullmatch(text) else None


def check(text: str, source: str) -> None:
    """Refuse a text that cannot be the address of a cluster's head.

    Raises:
        UsageError: The text cannot be an address; names its kind and the next step.
    """
    parts = _HOST_PORT.fullmatch(text)
    if text in ("auto", "local") or (parts and 0 < int(parts["port"]) < 1 << 16):
        return
    shown, url = f"{source} {uris.shown(text)}", _URL.match(text)
    host = (url and url["host"]) or "head"
    expected = f"expected HOST:PORT of the cluster's head, as {host}:{HEAD_PORT}"
    if url and url["scheme"].lower() in ("http", "https"):
        submit = f"sep-batch submit --address {uris.shown(text)} -- COMMAND"
        raise errors.UsageError(f"{shown}: the URL of a dashboard, {expected}; from outside the cluster: {submit}")
    if url and url["scheme"].lower() == "ray":
        submit = f"sep-batch submit --address http://{host}:{DASHBOARD_PORT} -- COMMAND"
        raise errors.UsageError(f"{shown}: Ray Client is not supported, {expected}; from outside the cluster: {submit}")
    raise errors.UsageError(f"{shown}: {expected}, or auto")


def reach(address: Address) -> None:
    """Connect to a head's port, and check that a gRPC server answers, as a head does.

    Raises:
        NoCluster: No gRPC server answers; names what is there instead.
    """
    with _connected(address) as connection:
        if os.environ.get("RAY_USE_TLS") in ("1", "true"):  # only Ray has the certificates
            return
        try:
            answer = _answer(connection)
        except TimeoutError as error:
            advice = f"check the head's port ({HEAD_PORT} by default) and the load of the head; or {address.otherwise}"
            raise NoCluster(
                f"no cluster at {address}: it takes connections, but does not answer in {ANSWER_S:.0f} s", advice
            ) from error
        except OSError:
            answer = b""
    if len(answer) < _FRAME_HEADER_BYTES or answer[3] != _SETTINGS:
        raise _other_service(address, answer)


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return the result of a call that cannot be interrupted; after the time limit it goes on in its thread.

    Raises:
        TimeoutError: The call takes longer than the time limit.
    """
    future = Future[T]()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="address").start()
    return future.result(timeout=seconds)


def _connected(address: Address) -> socket.socket:
    """Return a connection to the first of the host's IP addresses that takes one."""
    host, port = address.host_port
    try:
        candidates = within(RESOLVE_S, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError) as error:
        problem = f"no cluster at {address}: the host name {uris.printable(host)} is not found ({reason(error, RESOLVE_S)})"
        raise NoCluster(problem, f"correct it, or give an IP address; or {address.otherwise}") from error
    over, reasons = time.monotonic() + CONNECT_ALL_S, dict[str, None]()
    for family, kind, protocol, _, endpoint in candidates:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(max(0.1, min(CONNECT_S, over - time.monotonic())))
        try:
            connection.connect(endpoint)
        except OSError as error:
            connection.close()
            reasons[reason(error, CONNECT_S)] = None
        else:
            return connection
    advice = f"start the head (ray start --head --port={port}), or open its firewall to this machine; or {address.otherwise}"
    raise NoCluster(f"no cluster at {address}: {', '.join(reasons)}", advice)


def _answer(connection: socket.socket) -> bytes:
    """Begin HTTP/2, the protocol below gRPC, and return the first bytes of the answer."""
    over, answer = time.monotonic() + ANSWER_S, b""
    connection.settimeout(ANSWER_S)
    connection.sendall(_PREFACE)
    while len(answer) < _FRAME_HEADER_BYTES:
        connection.settimeout(max(0.1, over - time.monotonic()))
        piece = connection.recv(256)
        if not piece:
            break
        answer += piece
    return answer


def _other_service(address: Address, answer: bytes) -> NoCluster:
    host, port = address.host_port
    expected = f"expected the port of the cluster's head, {HEAD_PORT} by default"
    if answer.startswith((b"HTTP/", b"<")):
        advice = (
            f"{expected}; to use a dashboard, sep-batch submit --address http://{host}:{port} -- COMMAND; or {address.otherwise}"
        )
        return NoCluster(f"no cluster at {address}: an HTTP server answers, as a dashboard does", advice)
    line = uris.printable(answer.decode("ascii", "replace").partition("\n")[0].strip(), 60)
    problem = f"another service answers: {line}" if line else "the service there closes the connection"
    return NoCluster(f"no cluster at {address}: {problem}", f"{expected}; or {address.otherwise}")


def reason(error: BaseException, limit_s: float) -> str:
    """Return the reason of a failed connection, in a few words.

    Args:
        error: Exception raised by opening the connection.
        limit_s: Time limit of the connection, in seconds.
    """
    if isinstance(error, TimeoutError):
        return f"no answer in {limit_s:.0f} s"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
