"""Chained Ogg files: each link is decoded as a file of its own, and all are joined at one sample rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from sep_batch.pipeline import errors
from sep_batch.pipeline.audio import containers, ogg
from sep_batch.pipeline.audio.containers import AudioFile
from sep_batch.pipeline.audio.damage import SLACK_S, SLACK_SHARE, Counts, Packets
from sep_batch.pipeline.audio.decode_guard import DecodeGuard
from sep_batch.pipeline.audio.downmix import Downmix
from sep_batch.pipeline.audio.reader import Reader
from sep_batch.pipeline.audio.source_info import Found

_BROKEN = (errors.DecodeError, errors.UnsupportedFormat)


@contextmanager
def reading(file: AudioFile, rate_hz: int, facts: Found, downmix: Downmix, stream: int | None = None) -> Iterator[Reader | Chain]:
    """Open a file to read its samples at one rate.

    Args:
        file: The file.
        rate_hz: Sample rate of the samples.
        facts: Facts about the file, filled in on the way.
        downmix: Rule for more than two channels.
        stream: Number of the audio stream to read, from 0; None is FFmpeg's choice, as always for an Ogg file.

    Raises:
        DecodeError, UnsupportedFormat: As `containers.opened` and `Reader` raise them; for an Ogg file, while it is read.
    """
    if file.name == "ogg":
        yield Chain(file, rate_hz, facts, downmix)
        return
    with containers.opened(file) as (container, watched):
        yield Reader(container, rate_hz, facts, watched, downmix, stream=stream)


def declared_s(file: AudioFile, watched: DecodeGuard) -> float:
    """Return the duration of all links of an Ogg file, in seconds; 0 where it is not declared. A chain is read to its end."""
    one_s = ogg.seconds_of_one(watched, file.size)
    seconds = ogg.seconds(watched) if one_s is None else one_s
    watched.settle()
    return seconds


class Chain:
    """Iterates over the samples of an Ogg file of one link or more, (2, n) float32 at one sample rate.

    A link that cannot be read counts as one broken packet, and the file as cut, unless no link can be read.

    Attributes:
        rate_hz: Sample rate of the samples.
        found: Facts about the source; sample rate, channels, codec and stream are those of the first link that is read.
        packets: Packet counts of all links.
        ended: All links were read.
    """

    def __init__(self, file: AudioFile, rate_hz: int, facts: Found, downmix: Downmix) -> None:
        self.rate_hz, self.found, self.packets, self.ended = rate_hz, facts, Packets(is_ogg=True), False
        self._downmix, self._watched = downmix, DecodeGuard(file.source)
        self._declared_s = ogg.seconds_of_one(self._watched, file.size) or 0.0
        self._is_cut, self._is_mixed, self._audio_bytes = False, False, 0
        self._watched.settle()

    def __iter__(self) -> Iterator[np.ndarray]:
        declared_s, first_error = 0.0, None
        for link in ogg.links(self._watched):
            first_link = self.found.codec, self.found.stream, self.found.streams
            try:
                yield from self._samples(link)
            except _BROKEN as error:
                first_error = first_error or error
                self.packets.add(None, 0, is_good=False)
                self._is_cut = True
            if first_link[0]:
                self.found.codec, self.found.stream, self.found.streams = first_link
            link.drain()
            declared_s += link.audio[1].seconds if link.audio else 0.0
            self._is_mixed = self._is_mixed or len(link.streams) > 1
            self._audio_bytes += link.size - link.head_size + link.lost
            self.packets.base += link.size
        self._watched.settle()
        if first_error is not None and not self._watched.decoded_s:
            raise first_error
        self._declared_s, self.ended = declared_s, True

    def _samples(self, link: ogg.Link) -> Iterator[np.ndarray]:
        before_s = self._watched.decoded_s
        with containers.demuxed(link, "ogg", self._watched) as container:
            reader = Reader(container, self.rate_hz, self.found, self._watched, self._downmix, self.packets)
            number = reader.stream.index  # read while the container is open: FFmpeg frees its streams with it
            yield from reader
        link.drain()
        stream = link.stream(number)
        missing_s = stream.seconds - (self._watched.decoded_s - before_s)
        is_short = missing_s > max(SLACK_S, SLACK_SHARE * stream.seconds)
        if stream.stop is not None and (is_short or link.stray_pages or not stream.has_ended):
            self._is_cut = True

    def declared_s(self) -> float:
        """Return the declared duration in seconds; 0 where there is none, or where several links are not read yet."""
        return self._declared_s

    def counts(self) -> Counts:
        """Return the counts of all links; call it after they were read."""
        return replace(
            Counts.of(self.packets),
            came_s=self._watched.decoded_s,
            declared_s=self._declared_s or None,
            audio_bytes=None if self._is_mixed else self._audio_bytes,  # pages of a film or a second stream lie between
            end_bytes=self.packets.base - self.packets.end,
            is_cut=self._is_cut,
        )
