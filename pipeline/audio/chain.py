"""A chained Ogg file: every link decoded by itself, as a file of its own, and joined at one rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sep_batch.pipeline import failures
from sep_batch.pipeline.audio import containers, damage, ogg
from sep_batch.pipeline.audio.containers import AudioFile
from sep_batch.pipeline.audio.damage import Counts, Packets
from sep_batch.pipeline.audio.decode_guard import Watched
from sep_batch.pipeline.audio.downmix import Downmix
from sep_batch.pipeline.audio.reader import Found, Reader

_BROKEN = (failures.DecodeError, failures.UnsupportedFormat)


@contextmanager
def reading(file: AudioFile, rate_hz: int, found: Found, downmix: Downmix) -> Iterator[Reader | Chain]:
    """Open a file to read its samples at one rate.

    Raises:
        DecodeError, UnsupportedFormat: As `containers.opened` and `Reader` do; of an Ogg file, while it is read.
    """
    if file.name == "ogg":
        containers.announce(file.name)
        yield Chain(file, rate_hz, found, downmix)
        return
    with containers.opened(file) as (container, watched):
        yield Reader(container, rate_hz, found, watched, downmix)


def declared_s(file: AudioFile, watched: Watched) -> float:
    """Return the length of all links of an Ogg file, 0 where it says nothing; reads the whole file where it is a chain."""
    one_s = ogg.seconds_of_one(watched, file.size)
    seconds = ogg.seconds(watched) if one_s is None else one_s
    watched.settle()
    return seconds


class _Extent(NamedTuple):
    """Bytes of one link, from the file's start, and where the last packet that was read ended."""

    audio_begin: int
    end: int
    read_end: int


class Chain:
    """Iterates over the samples of an Ogg file, (2, n) float32 at one rate; one link is a chain too.

    A link that cannot be read counts as one broken packet, unless no link can be read.

    Attributes:
        rate_hz: Of the samples.
        found: Rate, channels, codec and stream are those of the first link that is read.
        packets: Of all links.
        ended: All links were read.
    """

    def __init__(self, file: AudioFile, rate_hz: int, found: Found, downmix: Downmix) -> None:
        self.rate_hz, self.found, self.ended, self.packets = rate_hz, found, False, Packets(is_ogg=True)
        self._downmix, self._watched = downmix, Watched(file.source)
        self._declared_s = ogg.seconds_of_one(self._watched, file.size) or 0.0
        self._is_cut, self._has_films = False, False
        self._extents = list[_Extent]()
        self._watched.settle()

    def __iter__(self) -> Iterator[np.ndarray]:
        seconds, begin, error = 0.0, 0, None
        for link in ogg.links(self._watched):
            first = replace(self.found) if self.found.rate_hz else None
            packets = Packets(is_ogg=True)
            try:
                yield from self._samples(link, packets)
            except _BROKEN as broken:
                error = error or broken
                packets.add(None, 0, is_good=False)
                self._is_cut = True
            finally:
                self._add(packets, first)
            link.drain()
            seconds += link.audio[1].seconds if link.audio else 0.0
            audio_begin = link.size if link.audio_begin is None else link.audio_begin
            self._extents.append(_Extent(begin + audio_begin, begin + link.size, begin + packets.end))
            begin += link.size
        self._watched.settle()
        if error is not None and not self.found.decoded_s:
            raise error
        self._declared_s, self.ended = seconds, True

    def _samples(self, link: ogg.Link, packets: Packets) -> Iterator[np.ndarray]:
        before_s = self.found.decoded_s
        with containers.demuxed(link, "ogg", self._watched) as container:
            reader = Reader(container, self.rate_hz, self.found, self._watched, self._downmix)
            reader.packets = packets
            number = reader.stream.index  # read while the container is open: FFmpeg frees its streams with it
            self._has_films = self._has_films or len(reader.streams()) > 1
            yield from reader
        link.drain()
        packets.leave_out(link.pages_end)
        stream = link.stream(number)
        is_short = damage.is_short(self.found.decoded_s - before_s, stream.seconds)
        if stream.stop is not None and (is_short or link.stray_pages or not stream.has_ended):
            self._is_cut = True

    def _add(self, packets: Packets, first: Found | None) -> None:
        """Add the packets of a link, and have what the first link is stand in the row."""
        self.packets.count += packets.count
        self.packets.broken += packets.broken
        self.packets.read_bytes += packets.read_bytes
        self.packets.used_bytes += packets.used_bytes
        self.found.skipped_packets = self.packets.broken
        if first is not None:
            found = self.found
            found.codec, found.stream, found.streams = first.codec, first.stream, first.streams

    def declared_s(self) -> float:
        """Return how long the file says it is; 0 where it says nothing, or where several links are not read yet."""
        return self._declared_s

    def counts(self, audio_end: int, asked_s: float) -> Counts:
        """Return what was counted of a file that was read to its end.

        Args:
            audio_end: Where the tags and zeros at its end begin.
            asked_s: How far it was to be read.
        """
        counts = replace(
            Counts.of(self.packets),
            came_s=self.found.decoded_s,
            declared_s=min(self._declared_s, asked_s) or None,
            is_cut=self._is_cut,
        )
        if self._has_films:
            return counts
        audio_bytes = end_bytes = 0
        for extent in self._extents:
            end = min(extent.end, audio_end)
            audio_bytes += max(0, end - extent.audio_begin)
            end_bytes += max(0, end - max(extent.read_end, extent.audio_begin))
        return replace(counts, audio_bytes=audio_bytes, end_bytes=end_bytes)
