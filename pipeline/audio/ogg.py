"""Ogg pages, and the links of a chained file: several Ogg files one behind the other, as in radio rips and game music.

A link begins with pages that begin a stream, where data pages of other streams came before. FFmpeg misreads the second link
wherever its headers differ from those of the first, so it reads one link at a time.
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
_LEAST_BITS_S = 6_000  # lowest bitrate of music in these codecs
_HEAD_BYTES = 256 << 10  # of a large file's first pages that are read
_MIN_PAGE_SHARE = 0.7  # in a file of one link: least number of the last page, as a share of the number that its first pages imply

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """One page.

    Attributes:
        content: The page with its header.
        flags: Bits: 1, continues a packet of the page before; 2, first page of its stream; 4, last page.
        granule: Position at the page's end in samples; -1 where no packet ends on it.
        serial: Serial number of the stream.
        number: Number of the page within its stream.
        packets: Number of packets that end on the page.
        body: Offset in `content` of the first packet that begins on the page.
    """

    content: bytes
    flags: int
    granule: int
    serial: int
    number: int
    packets: int
    body: int


class Pages:
    """Reads an Ogg file forward: pages, and the bytes between pages."""

    def __init__(self, source: Any, start: int = 0) -> None:
        self._source, self._offset = source, start
        self._block, self._position, self._has_ended = b"", 0, False
        self._next: Page | bytes | None = None

    def peek(self) -> Page | bytes:
        """Return the next result of `take`."""
        if self._next is None:
            self._next = self._read()
        return self._next

    def take(self) -> Page | bytes:
        """Return the next page, or the bytes before it that are no page; empty at the end."""
        taken, self._next = self.peek(), None
        return taken

    def _read(self) -> Page | bytes:
        while not self._has_ended and len(self._block) - self._position < MAX_PAGE_BYTES:
            self._source.seek(self._offset, io.SEEK_SET)
            more = self._source.read(_BLOCK_BYTES)
            self._offset, self._has_ended = self._offset + len(more), not more
            self._block, self._position = self._block[self._position :] + more, 0
        page = page_at(self._block, self._position)
        if page is not None:
            self._position += len(page.content)
            return page
        stop = self._block.find(_SIGN, self._position + 1)
        if stop < 0:  # the signature may begin in the last bytes
            stop = len(self._block) if self._has_ended else len(self._block) - len(_SIGN) + 1
        junk, self._position = self._block[self._position : stop], stop
        return junk


def page_at(block: bytes, start: int) -> Page | None:
    """Return the page at an offset; None where there is none, it is incomplete, or its checksum is wrong."""
    if not block.startswith(_SIGN, start) or len(block) < start + 27:
        return None
    lengths = block[start + 27 : start + 27 + block[start + 26]]
    content = block[start : start + 27 + len(lengths) + sum(lengths)]
    if len(lengths) < content[26] or len(content) < 27 + len(lengths) + sum(lengths) or not _is_intact(content):
        return None
    flags, granule, serial, number = (
        int.from_bytes(content[begin:stop], "little", signed=begin == 6) for begin, stop in ((5, 6), (6, 14), (14, 18), (18, 22))
    )
    ends = [index for index, length in enumerate(lengths) if length < 255]
    body = 27 + len(lengths) + (sum(lengths[: ends[0] + 1]) if flags & _CONTINUED and ends else 0)
    return Page(content, flags, granule, serial, number, len(ends), body)


def _is_intact(content: bytes) -> bool:
    return content[22:26] == _checksum(content)


def _checksum(content: bytes) -> bytes:
    """Return a page's CRC-32: zlib's polynomial with reversed bits, from 0, and no complement."""
    blank = content[:22] + bytes(4) + content[26:]
    return (zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_REVERSED)


def without_repeated_headers(page: Page) -> Page:
    """Remove Vorbis headers from a page that does not begin its stream: some tools wrote them twice, and FFmpeg stops there."""
    if page.flags & (_FIRST | _CONTINUED) or not page.content.startswith(b"\x01vorbis", page.body):
        return page
    table = PAGE_HEADER_BYTES + page.content[26]
    lengths, start, kept = page.content[PAGE_HEADER_BYTES:table], table, list[tuple[bytes, bytes]]()
    while lengths:
        count = next((index + 1 for index, length in enumerate(lengths) if length < 255), len(lengths))
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
    """One stream of a link, as far as its pages were read.

    Attributes:
        rate_hz: Sample rate of its positions; None where the codec is none of Vorbis, Opus, FLAC and Speex.
        packet_samples: Fewest and most samples of a packet.
        is_opus: The codec is Opus, whose packets hold their own duration.
        skipped: Samples at the start that are decoded and dropped.
        start: Position of the first sample: not 0 where a recorder joined a broadcast.
        stop: Position behind the last sample; None before the first page with samples.
        has_ended: The last page was read.
        pages: Number of pages read.
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
        """Duration of the pages read, by their positions; 0 where they have none."""
        if not self.rate_hz or self.stop is None:
            return 0.0
        samples = max(0, self.stop - self.start)
        return (
            samples - self.skipped if samples > self.skipped else samples
        ) / self.rate_hz  # to skip more than all is no header

    def add(self, page: Page, lost_bytes: int = 0) -> None:
        """Add the next page.

        Args:
            page: The next intact page.
            lost_bytes: Bytes before it that are no page. A first position beyond the audio that they could hold is an offset.
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
    """Return the stream that a first page begins."""
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
        streams: Streams by serial number, in the order of their first pages.
        stray_pages: Number of pages of streams that do not begin in this link, and of gaps between pages.
        has_ended: The whole link was read.
        taken: Bytes of the file that were read.
        size: Bytes of the pages that were read.
        head_size: Bytes of the pages before the first one on which samples end.
        lost: Bytes in gaps between pages, without those behind the last page.
    """

    def __init__(self, pages: Pages) -> None:
        self.streams: dict[int, Stream] = {}
        self.stray_pages = self.taken = self.size = self.head_size = self.lost = 0
        self.has_ended = False
        self._pages, self._has_data, self._junk = pages, False, 0
        self._content, self._position = b"", 0

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes, none at the end."""
        while self._position == len(self._content) and not self.has_ended:
            self._content, self._position = self._take(), 0
        content = self._content[self._position : self._position + size]
        self._position += len(content)
        return content

    def drain(self, size: int | None = None) -> int:
        """Read on, by default to the end, else at least `size` bytes; return the number of bytes read."""
        before = self.taken
        while not self.has_ended and (size is None or self.taken - before < size):
            self._take()
        return self.taken - before

    def stream(self, number: int) -> Stream:
        """Return one of the streams by FFmpeg's number."""
        streams = list(self.streams.values())
        return streams[number] if number < len(streams) else Stream()

    @property
    def audio(self) -> tuple[int, Stream] | None:
        """The first stream of a supported codec, with its serial number."""
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
    """Iterate over the links of a seekable file; each is read to its end before the next one is yielded."""
    pages = Pages(source)
    while pages.peek():
        link = Link(pages)
        yield link
        link.drain()


def seconds_of_one(source: Any, size: int) -> float | None:
    """Return the duration of a file of one link by its first and last pages, in seconds; None where there may be several links.

    Where all links have one serial number, and the last one has most of the file's pages, this is the duration of the last one.
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
    """Return the duration of all links together, in seconds; reads the whole file."""
    total = 0.0
    for link in links(source):
        link.drain()
        total += link.audio[1].seconds if link.audio else 0.0
    return total


def _pages(pages: Pages) -> Iterator[Page]:
    while item := pages.take():
        if isinstance(item, Page):
            yield item
