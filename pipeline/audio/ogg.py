"""Ogg pages, and the links of a chained file: what radio rips and game music have, several Ogg streams one behind another.

A link begins with the pages that begin a stream, where pages of others came before, and is a whole Ogg file. FFmpeg mistakes
the second one wherever its headers differ from those of the first, so that it is given one link at a time.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_PAGE_BYTES = 65_307
PAGE_HEADER_BYTES = 27  # without the table of sizes behind it
_BLOCK_BYTES = 64 << 10
_SIGN = b"OggS\0"
_VORBIS_HEADERS = (b"\x01vorbis", b"\x03vorbis", b"\x05vorbis")
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_OPUS_HZ = 48_000
_OPUS_MS = (*3 * (10, 20, 40, 60), *2 * (10, 20), *4 * (2.5, 5, 10, 20))  # of a frame, by the upper five bits of a packet
_LEAST_BITS_S = 6_000  # of music in the codecs here
_HEAD_BYTES = 256 << 10  # what is read of a large file's first pages
_MIN_PAGE_SHARE = 0.7  # the last page's number, as a share of what the first pages let expect, where there is one link

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """One page.

    Attributes:
        content: The page with its header.
        flags: Bits: 1, it goes on with a packet; 2, it is the first of its stream; 4, the last.
        granule: Position at its end in samples; -1 where no packet ends on it.
        serial: Number of its stream.
        number: Number of the page within its stream.
        packets: Packets that end on it.
        body: Where the first packet that begins on it begins in `content`.
    """

    content: bytes
    flags: int
    granule: int
    serial: int
    number: int
    packets: int
    body: int


class Pages:
    """Reads an Ogg file forward: pages, and as plain bytes what is none."""

    def __init__(self, source: Any, start: int = 0) -> None:
        self._source, self._offset = source, start
        self._block, self._place, self._has_ended = b"", 0, False
        self._next: Page | bytes | None = None

    def peek(self) -> Page | bytes:
        """Return what `take` returns next."""
        if self._next is None:
            self._next = self._read()
        return self._next

    def take(self) -> Page | bytes:
        """Return the next page, or bytes that are none; empty at the end."""
        taken, self._next = self.peek(), None
        return taken

    def _read(self) -> Page | bytes:
        while not self._has_ended and len(self._block) - self._place < MAX_PAGE_BYTES:
            self._source.seek(self._offset, io.SEEK_SET)
            more = self._source.read(_BLOCK_BYTES)
            self._offset, self._has_ended = self._offset + len(more), not more
            self._block, self._place = self._block[self._place :] + more, 0
        page = page_at(self._block, self._place)
        if page is not None:
            self._place += len(page.content)
            return page
        stop = self._block.find(_SIGN, self._place + 1)
        if stop < 0:  # the sign may begin in the last bytes
            stop = len(self._block) if self._has_ended else len(self._block) - len(_SIGN) + 1
        junk, self._place = self._block[self._place : stop], stop
        return junk


def page_at(block: bytes, start: int) -> Page | None:
    """Return the page that begins here; None where none does, it is not whole, or its checksum is wrong."""
    if not block.startswith(_SIGN, start) or len(block) < start + 27:
        return None
    lengths = block[start + 27 : start + 27 + block[start + 26]]
    content = block[start : start + 27 + len(lengths) + sum(lengths)]
    if len(lengths) < content[26] or len(content) < 27 + len(lengths) + sum(lengths) or not _is_intact(content):
        return None
    flags, granule, serial, number = (
        int.from_bytes(content[begin:stop], "little", signed=begin == 6) for begin, stop in ((5, 6), (6, 14), (14, 18), (18, 22))
    )
    ends = [place for place, length in enumerate(lengths) if length < 255]
    body = 27 + len(lengths) + (sum(lengths[: ends[0] + 1]) if flags & _CONTINUED and ends else 0)
    return Page(content, flags, granule, serial, number, len(ends), body)


def _is_intact(content: bytes) -> bool:
    return content[22:26] == _checksum(content)


def _checksum(content: bytes) -> bytes:
    """Return a page's CRC-32: that of zlib, with the bits the other way round and begun at 0."""
    blank = content[:22] + bytes(4) + content[26:]
    return (zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_REVERSED)


def without_repeated_headers(page: Page) -> Page:
    """Leave out Vorbis headers on a page that does not begin its stream: some tools wrote them twice, and FFmpeg stops there."""
    if page.flags & (_FIRST | _CONTINUED) or not page.content.startswith(b"\x01vorbis", page.body):
        return page
    table = PAGE_HEADER_BYTES + page.content[26]
    lengths, start, kept = page.content[PAGE_HEADER_BYTES:table], table, list[tuple[bytes, bytes]]()
    while lengths:
        count = next((place + 1 for place, length in enumerate(lengths) if length < 255), len(lengths))
        stop = start + sum(lengths[:count])
        if page.content[start : start + 7] not in _VORBIS_HEADERS:
            kept.append((lengths[:count], page.content[start:stop]))
        lengths, start = lengths[count:], stop
    table_kept = b"".join(table for table, _ in kept)
    head = page.content[:26] + bytes([len(table_kept)]) + table_kept
    content = head + b"".join(packet for _, packet in kept)
    content = content[:22] + _checksum(content) + content[26:]
    return page._replace(content=content, packets=sum(table[-1] < 255 for table, _ in kept), body=len(head))


@dataclass
class Stream:
    """One stream of a link, known as far as its pages were read.

    Attributes:
        rate_hz: Rate of its positions, None where the codec is none of Vorbis, Opus, FLAC and Speex.
        packet_samples: Fewest and most samples of a packet.
        is_opus: Its packets say themselves how long they are.
        skipped: Samples at its start that are decoded and dropped.
        start: Position at which it begins: not 0 where a recorder joined a broadcast.
        stop: Position at which it ends, None before the first page with samples.
        has_ended: The page that says so was read.
        pages: Read of it.
    """

    rate_hz: int | None = None
    packet_samples: tuple[int, int] = (0, 0)
    is_opus: bool = False
    skipped: int = 0
    start: int = 0
    stop: int | None = None
    has_ended: bool = False
    pages: int = 0

    @property
    def seconds(self) -> float:
        """Length of what was read, by the positions on its pages; 0 where they say nothing."""
        if not self.rate_hz or self.stop is None:
            return 0.0
        samples = max(0, self.stop - self.start)
        return (
            samples - self.skipped if samples > self.skipped else samples
        ) / self.rate_hz  # to skip more than all is no header

    def add(self, page: Page, lost_bytes: int = 0) -> None:
        """Take one more of its pages into account.

        Args:
            page: The next one that is whole.
            lost_bytes: Bytes before it that are no page. A first position that is later than these could reach is an offset.
        """
        self.pages += 1
        self.has_ended = bool(page.flags & _LAST)
        if page.granule <= 0:
            return
        if self.stop is None:
            fewest, most = (page.packets * samples for samples in self._packet_samples(page))
            most += lost_bytes * 8 * (self.rate_hz or 0) // _LEAST_BITS_S
            self.start = page.granule - fewest if page.granule > most else 0
        self.stop = page.granule

    def _packet_samples(self, page: Page) -> tuple[int, int]:
        packet = page.content[page.body : page.body + 2]
        if not self.is_opus or len(packet) < 2:
            return self.packet_samples
        count = (1, 2, 2, packet[1] & 63)[packet[0] & 3]
        samples = round(_OPUS_MS[packet[0] >> 3] * _OPUS_HZ / 1000 * count)
        return samples, samples


def _stream(page: Page) -> Stream:
    """Return a stream by its first page."""
    head = page.content[page.body :].ljust(80, b"\0")
    if head.startswith(b"OpusHead"):
        return Stream(_OPUS_HZ, (0, 5760), is_opus=True, skipped=int.from_bytes(head[10:12], "little"))
    if head.startswith(b"\x01vorbis"):
        return Stream(int.from_bytes(head[12:16], "little"), ((1 << (head[28] & 15)) // 2, (1 << (head[28] >> 4)) // 2))
    if head.startswith(b"\x7fFLAC"):
        fewest, most, rate = (int.from_bytes(head[begin:stop], "big") for begin, stop in ((17, 19), (19, 21), (27, 30)))
        return Stream(rate >> 4, (fewest, most))
    if head.startswith(b"Speex   "):
        rate, frame, frames = (int.from_bytes(head[begin : begin + 4], "little") for begin in (36, 56, 64))
        return Stream(rate, (frame * frames, frame * frames))
    return Stream()


class Link:
    """One link as a file that is read forward; it ends where the next one begins.

    Attributes:
        streams: By serial number, in their order.
        stray_pages: Pages of no stream that begins in this link, and runs of bytes between pages that are none.
        has_ended: All of it was read.
        taken: Bytes of the file that were read.
        size: Bytes of the pages among them; what is no page is left out.
        head_size: Bytes of the pages before the first one on which samples end.
        lost: Bytes between pages that are none; those behind the last page are left out.
    """

    def __init__(self, pages: Pages) -> None:
        self.streams: dict[int, Stream] = {}
        self.stray_pages = self.taken = self.size = self.head_size = self.lost = 0
        self.has_ended = False
        self._pages, self._has_data, self._junk = pages, False, 0
        self._content, self._place = b"", 0

    def read(self, size: int) -> bytes:
        """Read at most so many bytes, none at the end."""
        while self._place == len(self._content) and not self.has_ended:
            self._content, self._place = self._take(), 0
        content = self._content[self._place : self._place + size]
        self._place += len(content)
        return content

    def drain(self, size: int | None = None) -> int:
        """Read on, by default to the end, else over so many bytes; return how many were read."""
        before = self.taken
        while not self.has_ended and (size is None or self.taken - before < size):
            self._take()
        return self.taken - before

    def stream(self, number: int) -> Stream:
        """Return one of the streams by its number as FFmpeg counts them."""
        streams = list(self.streams.values())
        return streams[number] if number < len(streams) else Stream()

    @property
    def audio(self) -> tuple[int, Stream] | None:
        """The first stream of a known codec, with its serial number."""
        return next(((serial, stream) for serial, stream in self.streams.items() if stream.rate_hz), None)

    def _take(self) -> bytes:
        page = self._pages.peek()
        if not page or (isinstance(page, Page) and page.flags & _FIRST and self._has_data):
            self.has_ended = True
            return b""
        self._pages.take()
        if isinstance(page, bytes):
            self.taken += len(page)
            self._junk += len(page) if self.streams else 0
            return b""
        page = without_repeated_headers(page)
        is_head = self.head_size == self.size and page.granule in (0, -1)
        self.taken, self.size = self.taken + len(content := page.content), self.size + len(page.content)
        self.head_size = self.size if is_head else self.head_size
        self._add(page)
        return content

    def _add(self, page: Page) -> None:
        is_first = bool(page.flags & _FIRST)
        if is_first:
            self.streams[page.serial] = _stream(page)
        stream = self.streams.get(page.serial)
        if stream is not None:
            stream.add(page, self.lost + self._junk)
        self.stray_pages += self._junk > 0 or stream is None
        self.lost, self._junk = self.lost + self._junk, 0
        self._has_data = self._has_data or not is_first


def links(source: Any) -> Iterator[Link]:
    """Iterate over the links of a seekable file; each is read to its end before the next one comes."""
    pages = Pages(source)
    while pages.peek():
        link = Link(pages)
        yield link
        link.drain()


def seconds_of_one(source: Any, size: int) -> float | None:
    """Return the length of a file of one link by its first and last pages; None where there may be several.

    Where all links have one serial number, and the last one has most of the file's pages, this is the length of the last one.
    """
    link = Link(Pages(source))
    read = link.drain(_HEAD_BYTES)
    if link.audio is None or (link.has_ended and read < size):
        return None
    serial, stream = link.audio
    if read < size:
        tail = list(_pages(Pages(source, max(0, size - 2 * MAX_PAGE_BYTES))))
        last = [page for page in tail if page.serial == serial and page.granule > 0]
        if not last or tail[-1].serial not in link.streams or any(page.flags & _FIRST for page in tail):
            return None
        if last[-1].number < _MIN_PAGE_SHARE * stream.pages * size / read:
            return None
        stream.add(last[-1])
    return stream.seconds


def seconds(source: Any) -> float:
    """Return the length of all links together; reads the whole file."""
    total = 0.0
    for link in links(source):
        link.drain()
        total += link.audio[1].seconds if link.audio else 0.0
    return total


def _pages(pages: Pages) -> Iterator[Page]:
    while unit := pages.take():
        if isinstance(unit, Page):
            yield unit
