"""A chained Ogg file: every link decoded by itself, as a file of its own, and joined at one rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sep_batch.pipeline import failures
from sep_batch.pipeline.audio import containers, ogg
from sep_batch.pipeline.audio.containers import AudioFile
from sep_batch.pipeline.audio.decode_guard import Watched
from sep_batch.pipeline.audio.reader import DECLARED_SLACK_S, Found, Reader

_BROKEN = (failures.DecodeError, failures.UnsupportedFormat)


@contextmanager
def reading(file: AudioFile, rate_hz: int, found: Found) -> Iterator[Reader | Chain]:
    """Open a file to read its samples at one rate.

    Raises:
        DecodeError, UnsupportedFormat: As `containers.opened` and `Reader` do; of an Ogg file, while it is read.
    """
    if file.name == "ogg":
        with Watched(file.source) as watched:
            yield Chain(file, rate_hz, found, watched)
        return
    with containers.opened(file) as (container, watched):
        yield Reader(container, rate_hz, found, watched)


def declared_s(file: AudioFile, watched: Watched) -> float:
    """Return the length of all links of an Ogg file, 0 where it says nothing; reads the whole file where it is a chain."""
    one_s = ogg.seconds_of_one(watched, file.size)
    seconds = ogg.seconds(watched) if one_s is None else one_s
    watched.settle()
    return seconds


class Chain:
    """Iterates over the samples of an Ogg file, (2, n) float32 at one rate; one link is a chain too.

    A link that cannot be read counts as one skipped packet, and the file as truncated, unless no link can be read.

    Attributes:
        rate_hz: Of the samples.
        found: Rate, channels and codec are those of the first link that is read.
        decoded: Samples at the first link's rate.
        ended: All links were read.
    """

    def __init__(self, file: AudioFile, rate_hz: int, found: Found, watched: Watched) -> None:
        self.rate_hz, self.found, self.ended = rate_hz, found, False
        self._watched = watched
        self._declared_s = ogg.seconds_of_one(watched, file.size) or 0.0
        self._is_truncated = False
        watched.settle()

    def __iter__(self) -> Iterator[np.ndarray]:
        declared_s, first_error = 0.0, None
        for link in ogg.links(self._watched):
            codec = self.found.codec
            try:
                yield from self._samples(link)
            except _BROKEN as error:
                first_error = first_error or error
                self.found.skipped_packets += 1
                self._is_truncated = True
            self.found.codec = codec or self.found.codec
            link.drain()
            declared_s += link.audio[1].seconds if link.audio else 0.0
        self._watched.settle()
        if first_error is not None and not self._watched.decoded_s:
            raise first_error
        self._declared_s, self.ended = declared_s, True

    @property
    def decoded(self) -> int:
        """Samples that were decoded, at the first link's rate."""
        return round(self._watched.decoded_s * self.found.rate_hz)

    def _samples(self, link: ogg.Link) -> Iterator[np.ndarray]:
        before_s = self._watched.decoded_s
        with containers.demuxed(link, "ogg", self._watched) as container:
            reader = Reader(container, self.rate_hz, self.found, self._watched)
            number = reader.stream.index  # read while the container is open: FFmpeg frees its streams with it
            yield from reader
        link.drain()
        stream = link.stream(number)
        missing_s = stream.seconds - (self._watched.decoded_s - before_s)
        is_short = missing_s > max(DECLARED_SLACK_S, 0.01 * stream.seconds)
        if stream.stop is not None and (is_short or link.stray_pages or not stream.has_ended):
            self._is_truncated = True

    def declared_s(self) -> float:
        """Return how long the file says it is; 0 where it says nothing, or where several links are not read yet."""
        return self._declared_s

    def is_truncated(self) -> bool:
        """Tell whether a link has no end, is shorter than its pages say, or could not be read."""
        return self.ended and self._is_truncated
