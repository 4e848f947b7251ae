"""Faults between an S3 client and its server: a reverse proxy on loopback that plays what a test has planned.

    slow = Fault(Kind.SLOW_DOWN, "PUT", "stems/", times=2)
    cut = Fault(Kind.TRUNCATE, "GET", "in/b.wav", nth=3)
    with faulty("http://127.0.0.1:9000", slow, cut) as endpoint:
        client = boto3.client("s3", endpoint_url=endpoint)  # or AWS_ENDPOINT_URL_S3, which a client reads when it is made
        ...
    assert (slow.fired, cut.fired) == (2, 1)

A client signs for the proxy's address, and the server gets the Host header as it is: signatures hold, with path-style URLs.
A request is counted by every fault that it matches, and hit by the first that is due. A connection carries one exchange, so that
no client repeats by itself what failed on a connection it had kept. Bodies pass whole, through memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from http.client import HTTPMessage
from urllib.parse import unquote, urlsplit

from faults.http_messages import Message, read_body, read_head
from faults.plan import ERRORS, Fault, Kind

HOST = "127.0.0.1"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s: closing a socket resets its connection


@contextlib.contextmanager
def faulty(upstream: str, *faults: Fault) -> Iterator[str]:
    """Run a proxy in a thread of this program, and yield its endpoint.

    Args:
        upstream: The server's endpoint, such as http://127.0.0.1:9000.
        faults: The plan.
    """
    started: queue.SimpleQueue = queue.SimpleQueue()

    async def serve() -> None:
        ended = asyncio.Event()
        server = await asyncio.start_server(functools.partial(_connected, upstream, faults), HOST, 0)
        stop = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        started.put((server.sockets[0].getsockname()[1], stop))
        await ended.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    port, stop = started.get()
    try:
        yield f"http://{HOST}:{port}"
    finally:
        stop()
        thread.join()


async def _connected(upstream: str, faults: Sequence[Fault], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take one request, and give its answer or what the plan has in its place."""
    try:
        request = await read_head(reader)
        method, target, _ = request.first.split(" ")
        fault = next(iter([fault for fault in faults if fault.due(method, unquote(target))]), None)
        if fault and fault.kind is Kind.RESET_BEFORE:
            fault.fired += 1
            _reset(writer)
            return
        if "Expect" in request.headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = await read_body(reader, request.headers)
        refused = fault and fault.kind in ERRORS
        answer = _error(fault.kind, method) if refused else await _answer(upstream, method, request)
        answer.headers["Connection"] = "close"
        await _play(fault, answer, writer)
    except (ConnectionError, asyncio.IncompleteReadError):
        writer.transport.abort()  # the client has gone, as some faults make it go
    finally:
        writer.close()


def _error(kind: Kind, method: str) -> Message:
    """Make an error of S3; asked by HEAD it has no body, so nothing says what it is but its status."""
    status, _, code = kind.partition(" ")
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>Planned by a test.</Message></Error>'
    headers = HTTPMessage()
    headers["Content-Type"] = "application/xml"
    headers["Content-Length"] = str(len(body))
    return Message(f"HTTP/1.1 {status} {code}", headers, b"" if method == "HEAD" else body.encode())


async def _answer(upstream: str, method: str, request: Message) -> Message:
    """Ask the server."""
    server = urlsplit(upstream)
    reader, writer = await asyncio.open_connection(server.hostname, server.port)
    try:
        request.pass_on()
        writer.write(request.head() + request.body)
        answer = await read_head(reader)
        answer.body = b"" if method == "HEAD" else await read_body(reader, answer.headers)
        answer.pass_on()
        return answer
    finally:
        writer.close()


async def _play(fault: Fault | None, answer: Message, writer: asyncio.StreamWriter) -> None:
    """Send an answer, whole or as the fault has it."""
    whole = answer.head() + answer.body
    if fault is None:
        return await _send(writer, whole)
    at = _begins(fault, answer)
    fault.fired += 1
    match fault.kind:
        case Kind.DROP:
            _reset(writer)
        case Kind.RESET_AMID:
            await _send(writer, whole[:at])
            _reset(writer)
        case Kind.TRUNCATE:
            await _send(writer, whole[:at])
        case Kind.STALL:
            await _send(writer, whole[:at])
            await asyncio.sleep(fault.seconds)
            await _send(writer, whole[at:])
        case Kind.FLIP:
            await _send(writer, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        case _:
            await _send(writer, whole)
    return None


def _begins(fault: Fault, answer: Message) -> int:
    """Return which byte of an answer is the first that a fault touches.

    Raises:
        ValueError: Its body is too short to be cut, or flipped, there.
    """
    if fault.kind is Kind.DROP or fault.kind in ERRORS or (fault.kind is Kind.STALL and fault.at is None):
        return 0
    at = len(answer.body) // 2 if fault.at is None else fault.at
    if at >= len(answer.body):
        raise ValueError(f"{answer.first}: a body of {len(answer.body)} bytes, expected more than {at} for {fault.kind.name}")
    return len(answer.head()) + at


async def _send(writer: asyncio.StreamWriter, content: bytes) -> None:
    """Send, and wait until the kernel has it all."""
    writer.transport.set_write_buffer_limits(0)
    writer.write(content)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
