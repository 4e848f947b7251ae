"""Requests and answers of HTTP/1.1 as whole messages: read from a stream, and written with a Content-Length."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from http.client import HTTPMessage, parse_headers

END = b"\r\n\r\n"
OF_THE_CONNECTION = ("Connection", "Expect", "Keep-Alive", "Transfer-Encoding")  # no proxy hands these on


@dataclass
class Message:
    """A request or an answer: its first line, its headers, its body."""

    first: str
    headers: HTTPMessage
    body: bytes = b""

    def head(self) -> bytes:
        """Return the first line, the headers and the blank line after them."""
        lines = (f"{name}: {value}" for name, value in self.headers.items())
        return "\r\n".join([self.first, *lines]).encode("latin-1") + END

    def pass_on(self) -> None:
        """Make the headers fit a connection that sends the body in one run."""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            self.headers["Content-Length"] = str(len(self.body))
        for name in OF_THE_CONNECTION:
            del self.headers[name]


async def read_head(reader: asyncio.StreamReader) -> Message:
    """Read a message up to its body."""
    first, _, headers = (await reader.readuntil(END)).partition(b"\r\n")
    return Message(first.decode("latin-1"), parse_headers(io.BytesIO(headers)))


async def read_body(reader: asyncio.StreamReader, headers: HTTPMessage) -> bytes:
    """Read the body that a message's headers announce."""
    if "chunked" not in headers.get("Transfer-Encoding", ""):
        return await reader.readexactly(int(headers.get("Content-Length", 0)))
    body = io.BytesIO()
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body.write(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():  # trailers, up to a blank line
        continue
    return body.getvalue()
